package health

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tinylb/tinylb/internal/lb"
)

// backends answer checks as they are told to, and remember when they were asked.
type backends struct {
	mu     sync.Mutex
	errors map[netip.AddrPort]error
	takes  time.Duration
	asked  map[netip.AddrPort][]time.Time
	atOnce int
	most   int // at once
}

func newBackends() *backends {
	return &backends{errors: map[netip.AddrPort]error{}, asked: map[netip.AddrPort][]time.Time{}}
}

func (b *backends) probe(ctx context.Context, address netip.AddrPort) error {
	b.mu.Lock()
	b.asked[address] = append(b.asked[address], time.Now())
	b.atOnce++
	b.most = max(b.most, b.atOnce)
	err, takes := b.errors[address], b.takes
	b.mu.Unlock()
	defer func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.atOnce--
	}()
	answer, cancel := context.WithTimeout(ctx, takes)
	defer cancel()
	<-answer.Done()
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return err
}

func (b *backends) set(address netip.AddrPort, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.errors[address] = err
}

func (b *backends) times(address netip.AddrPort) []time.Time {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.asked[address])
}

func (b *backends) mostAtOnce() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.most
}

func (b *backends) checker(log *slog.Logger) *Checker {
	return newChecker(log, func(lb.Check) (probe, error) { return b.probe, nil })
}

func check() *lb.Check {
	return &lb.Check{
		Type: lb.CheckTCP, Interval: 10 * time.Second, FastInterval: time.Second, Timeout: 5 * time.Second, Jitter: 20, Rise: 2, Fall: 3,
	}
}

func targetAt(n int, before lb.HealthState) Target {
	address := netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, byte(n >> 8), byte(n)}), 80)
	return Target{
		CheckedBackend: lb.CheckedBackend{Service: "web", Address: address}, Address: address, Check: check(), Before: &lb.Health{State: before},
	}
}

// inBubble runs a test with a clock of its own.
func inBubble(t *testing.T, test func(t *testing.T, b *backends, c *Checker)) {
	synctest.Test(t, func(t *testing.T) {
		b := newBackends()
		c := b.checker(slog.New(slog.DiscardHandler))
		defer c.Close()
		test(t, b, c)
	})
}

func states(c *Checker) map[netip.AddrPort]lb.HealthState {
	all := map[netip.AddrPort]lb.HealthState{}
	for key, h := range c.Changes() {
		all[key.Address] = h.State
	}
	return all
}

func TestEveryTargetIsToldAtFirst(t *testing.T) {
	inBubble(t, func(t *testing.T, b *backends, c *Checker) {
		b.takes = time.Millisecond
		up, down := targetAt(1, lb.HealthUnknown), targetAt(2, lb.HealthNew)
		b.set(down.Address, errors.New("refused"))
		c.Set([]Target{up, down})
		if got := states(c); !maps.Equal(got, map[netip.AddrPort]lb.HealthState{up.Address: lb.HealthUnknown, down.Address: lb.HealthNew}) || c.Unknown() != 1 {
			t.Errorf("at first: %v, %d unknown", got, c.Unknown())
		}
		<-c.Changed()
		time.Sleep(time.Second)
		if got := states(c); !maps.Equal(got, map[netip.AddrPort]lb.HealthState{up.Address: lb.HealthUp, down.Address: lb.HealthDown}) || c.Unknown() != 0 {
			t.Errorf("after the first check: %v, %d unknown", got, c.Unknown())
		}
		if got := states(c); len(got) > 0 {
			t.Errorf("told twice: %v", got)
		}
	})
}

func TestIntervals(t *testing.T) {
	inBubble(t, func(t *testing.T, b *backends, c *Checker) {
		target := targetAt(1, lb.HealthUnknown)
		c.Set([]Target{target})
		time.Sleep(time.Hour)
		asked := b.times(target.Address)
		if n := len(asked); n < 350 || n > 375 {
			t.Errorf("%d checks in an hour, want 360", n)
		}
		shortest, longest := time.Hour, time.Duration(0)
		for i := 2; i < len(asked); i++ {
			pause := asked[i].Sub(asked[i-1])
			shortest, longest = min(shortest, pause), max(longest, pause)
		}
		if shortest < 8*time.Second || shortest > 8500*time.Millisecond || longest > 12*time.Second || longest < 11500*time.Millisecond {
			t.Errorf("pauses from %v to %v, want from 8s to 12s", shortest, longest)
		}

		b.set(target.Address, errors.New("refused"))
		failed := time.Now()
		for isDown := false; !isDown; {
			<-c.Changed()
			h := c.Changes()[target.CheckedBackend]
			isDown = h != nil && h.State == lb.HealthDown
		}
		if took := time.Since(failed); took < 1600*time.Millisecond || took > 12*time.Second+2400*time.Millisecond {
			t.Errorf("found down after %v", took)
		}
		asked = b.times(target.Address)
		for i := range 2 {
			pause := asked[len(asked)-1-i].Sub(asked[len(asked)-2-i])
			if pause < 800*time.Millisecond || pause > 1200*time.Millisecond {
				t.Errorf("%v between checks that fail, want 1s", pause)
			}
		}
	})
}

// Checks of many targets do not come in waves, although all began together.
func TestChecksAreSpread(t *testing.T) {
	inBubble(t, func(t *testing.T, b *backends, c *Checker) {
		const many = 1000
		var targets []Target
		for n := range many {
			targets = append(targets, targetAt(n, lb.HealthUnknown))
		}
		c.Set(targets)
		time.Sleep(many * time.Second / firstChecks)
		if c.Unknown() > 0 {
			t.Errorf("%d were not checked at first", c.Unknown())
		}
		time.Sleep(30 * time.Second) // until nothing is left of the beginning
		begin := time.Now()
		time.Sleep(60 * time.Second)
		perSecond := make([]int, 60)
		for _, target := range targets {
			for _, asked := range b.times(target.Address) {
				if after := asked.Sub(begin); after >= 0 && after < time.Minute {
					perSecond[after/time.Second]++
				}
			}
		}
		for second, n := range perSecond {
			if n < many/10/2 || n > many/10*2 {
				t.Errorf("%d checks in second %d, want about %d", n, second, many/10)
			}
		}
	})
}

// A check that hangs ends at its timeout, and the next one does not overlap with it.
func TestHangingBackend(t *testing.T) {
	inBubble(t, func(t *testing.T, b *backends, c *Checker) {
		b.takes = time.Hour
		target := targetAt(1, lb.HealthUnknown)
		c.Set([]Target{target})
		time.Sleep(5*time.Second + 100*time.Millisecond)
		h := c.Changes()[target.CheckedBackend]
		if h.State != lb.HealthDown || h.Error != "no answer within 5s" {
			t.Errorf("got %+v", h)
		}
		time.Sleep(time.Minute)
		if most := b.mostAtOnce(); most != 1 {
			t.Errorf("%d checks at once", most)
		}
	})
}

func TestTooManyAtOnce(t *testing.T) {
	inBubble(t, func(t *testing.T, b *backends, c *Checker) {
		b.takes = time.Hour
		c.slots = make(chan struct{}, 10)
		var targets []Target
		for n := range 30 {
			targets = append(targets, targetAt(n, lb.HealthUnknown))
		}
		c.Set(targets)
		time.Sleep(16 * time.Second)
		if most := b.mostAtOnce(); most != 10 || c.Unknown() != 0 {
			t.Errorf("%d checks at once, want 10; %d never checked", most, c.Unknown())
		}
	})
}

func TestSetAgain(t *testing.T) {
	inBubble(t, func(t *testing.T, b *backends, c *Checker) {
		kept, gone := targetAt(1, lb.HealthUnknown), targetAt(2, lb.HealthUnknown)
		b.set(kept.Address, errors.New("refused"))
		c.Set([]Target{kept, gone})
		time.Sleep(15 * time.Second)
		was := c.Changes()[kept.CheckedBackend]

		// the same: nothing happens, whatever is said to have been before
		checks := len(b.times(kept.Address))
		same := kept
		same.Before, same.Check = &lb.Health{State: lb.HealthNew}, check()
		for range 1000 {
			c.Set([]Target{same})
		}
		if changes := c.Changes(); len(changes) > 0 {
			t.Errorf("told anew: %v", changes)
		}
		synctest.Wait()
		if n := len(b.times(kept.Address)); n != checks {
			t.Errorf("checked %d times by being set again", n-checks)
		}
		goneChecks := len(b.times(gone.Address))
		time.Sleep(time.Minute)
		if n := len(b.times(gone.Address)); n != goneChecks {
			t.Errorf("checked %d times after it was gone", n-goneChecks)
		}
		if n := len(b.times(kept.Address)); n < checks+4 {
			t.Errorf("checked %d times in a minute", n-checks)
		}

		// another check: it keeps its state, and is checked at once
		checks = len(b.times(kept.Address))
		other := kept
		other.Check = check()
		other.Check.Rise = 1
		b.set(kept.Address, nil)
		c.Set([]Target{other})
		time.Sleep(10 * time.Millisecond)
		h := c.Changes()[kept.CheckedBackend]
		if len(b.times(kept.Address)) != checks+1 || h.State != lb.HealthUp || len(h.Transitions) != 2 || h.Transitions[0] != was.Transitions[0] {
			t.Errorf("after a change of the check: %+v", h)
		}
	})
}

// What was known before holds until rise or fall say something else.
func TestInheritedState(t *testing.T) {
	inBubble(t, func(t *testing.T, _ *backends, c *Checker) {
		target := targetAt(1, lb.HealthDown)
		target.Before.Transitions = []lb.Transition{{At: time.Now(), State: lb.HealthDown, Cause: "refused"}}
		c.Set([]Target{target})
		if c.Unknown() != 0 {
			t.Error("it is unknown")
		}
		time.Sleep(time.Millisecond)
		for _, h := range c.Changes() {
			if h.State != lb.HealthDown {
				t.Errorf("after one check: %+v", h)
			}
		}
		time.Sleep(1200 * time.Millisecond) // the faster interval, and its jitter
		if h := c.Changes()[target.CheckedBackend]; h == nil || h.State != lb.HealthUp || len(h.Transitions) != 2 {
			t.Errorf("after two checks: %+v", h)
		}
	})
}

func TestNoProbe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newChecker(slog.New(slog.DiscardHandler), func(lb.Check) (probe, error) { return nil, errors.New("bad check") })
		defer c.Close()
		target := targetAt(1, lb.HealthUnknown)
		c.Set([]Target{target})
		time.Sleep(time.Second)
		if h := c.Changes()[target.CheckedBackend]; h.State != lb.HealthDown || h.Error != "bad check" {
			t.Errorf("got %+v", h)
		}
	})
}

// Close ends checks under way.
func TestClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBackends()
		b.takes = time.Hour
		c := b.checker(slog.New(slog.DiscardHandler))
		c.Set([]Target{targetAt(1, lb.HealthUnknown), targetAt(2, lb.HealthUnknown)})
		time.Sleep(time.Second)
		before := time.Now()
		c.Close()
		if took := time.Since(before); took > 0 || b.atOnce > 0 {
			t.Errorf("took %v, %d checks under way", took, b.atOnce)
		}
	})
}

// A backend that hangs does not keep a daemon from ending.
func TestCloseWithHangingBackends(t *testing.T) {
	reached := make(chan struct{})
	server := serve(t, func(conn net.Conn) {
		reached <- struct{}{}
		hang(conn)
	})
	silent, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	c := New(slog.New(slog.DiscardHandler))
	var targets []Target
	for i, kind := range []lb.CheckType{lb.CheckHTTP, lb.CheckHTTPS, lb.CheckGRPC, lb.CheckUDP} {
		target := targetAt(i, lb.HealthUnknown)
		target.Address = server
		if target.Check.Type = kind; kind == lb.CheckUDP {
			target.Address = addressOf(silent.LocalAddr())
		}
		target.Check.Timeout, target.Check.Send = time.Hour, "ping"
		targets = append(targets, target)
	}
	c.Set(targets)
	for range 3 {
		<-reached
	}
	if _, _, err := silent.ReadFrom(nil); err != nil {
		t.Fatal(err)
	}
	closed := make(chan struct{})
	go func() {
		c.Close()
		close(closed)
	}()
	select {
	case <-closed:
	case <-time.After(long):
		t.Error("it waits for them")
	}
}

// Each transition is one line with its cause, a check is none.
func TestLog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out strings.Builder
		b := newBackends()
		c := b.checker(slog.New(slog.NewTextHandler(&out, &slog.HandlerOptions{ReplaceAttr: withoutTime})))
		target := targetAt(1, lb.HealthUnknown)
		c.Set([]Target{target})
		time.Sleep(time.Minute)
		b.set(target.Address, errors.New("refused"))
		time.Sleep(time.Minute)
		b.set(target.Address, nil)
		time.Sleep(time.Minute)
		c.Close()
		const about = "service=web backend=10.0.0.1:80 check=tcp"
		want := fmt.Sprintf("level=WARN msg=\"backend down\" %s cause=refused\nlevel=INFO msg=\"backend up\" %s\n", about, about)
		if out.String() != want {
			t.Errorf("got\n%swant\n%s", out.String(), want)
		}
	})
}

func withoutTime(_ []string, a slog.Attr) slog.Attr {
	if a.Key == slog.TimeKey {
		return slog.Attr{}
	}
	return a
}
