package datapath

import (
	"errors"
	"fmt"
	"runtime"
	"time"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// Decision is what became of one packet.
type Decision struct {
	Verdict Verdict
	Reason  Reason
	Service uint32
	Backend uint32
}

// RunnerOptions choose the program that a Runner runs.
type RunnerOptions struct {
	Attachment Attachment
	Seed       uint64     // of the data plane's random numbers
	HashKeys   [10]uint32 // of the flow table, as bpf/hash.h has them; zero: as they are. To be changed before the first flow
}

// Runner runs packets through the real program in the kernel, one at a time,
// touching no interface. Time and randomness are the caller's.
type Runner struct {
	d       *Datapath
	program *ebpf.Program
	sweeper *ebpf.Program // nil until it is needed
	random  uint64
	last    uint64
	out     []byte
}

// LoopbackIndex is the interface that a Runner's packets arrive at.
const LoopbackIndex = 1

// maxFrame is the largest frame that the kernel's test-run takes and may return.
const maxFrame = 17*4096 + 4096

// NewRunner loads a program with the test clock.
func (d *Datapath) NewRunner(opts RunnerOptions) (*Runner, error) {
	if keys := (lbHashKeys{Key: opts.HashKeys}); keys != (lbHashKeys{}) {
		if err := put(d.maps.AllHashKeys, uint32(0), &keys); err != nil {
			return nil, err
		}
	}
	program, err := d.load(knobs{
		checksum:        opts.Attachment.checksumHandling(),
		mac:             opts.Attachment.MAC,
		txByRedirect:    opts.Attachment.TXByRedirect,
		testClock:       true,
		recordDecisions: true,
	})
	if err != nil {
		return nil, err
	}
	return &Runner{d: d, program: program, random: opts.Seed, out: make([]byte, maxFrame)}, nil
}

// Close frees the programs.
func (r *Runner) Close() error { return errors.Join(r.program.Close(), r.sweeper.Close()) }

// ErrFrame says that the kernel does not take a frame of this size.
var ErrFrame = errors.New("the kernel does not run a frame of this size")

// Run gives one frame, at least 14 bytes, to the program at the given time and
// returns what it decided and the frame as it left. Time never stands still:
// of two packets at the same instant the second is a nanosecond later.
func (r *Runner) Run(at time.Time, frame []byte) (Decision, []byte, error) {
	// per-CPU state, such as the kernel's redirect target, must stay in one place
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()

	if err := r.setClock(at); err != nil {
		return Decision{}, nil, err
	}
	opts := ebpf.RunOptions{Data: frame, DataOut: r.out, Repeat: 1}
	verdict, err := r.program.Run(&opts)
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOMEM) {
		return Decision{}, nil, fmt.Errorf("%w: %d bytes", ErrFrame, len(frame))
	}
	if err != nil {
		return Decision{}, nil, fmt.Errorf("run the program: %w", err)
	}
	var input lbTestInput
	if err := r.d.maps.TestInputs.Lookup(uint32(0), &input); err != nil {
		return Decision{}, nil, fmt.Errorf("read the random state: %w", err)
	}
	r.random = input.Random

	var d lbDecision
	if err := r.d.maps.Decisions.Lookup(uint32(0), &d); err != nil {
		return Decision{}, nil, fmt.Errorf("read the decision: %w", err)
	}
	if uint32(d.Verdict) != verdict {
		return Decision{}, nil, fmt.Errorf("the program returned %d but recorded %s", verdict, Verdict(d.Verdict))
	}
	decision := Decision{Verdict: Verdict(d.Verdict), Reason: Reason(d.Reason), Service: d.Service, Backend: d.Backend}
	return decision, append([]byte(nil), opts.DataOut...), nil
}

// setClock makes it that time, or a nanosecond later than it was.
func (r *Runner) setClock(at time.Time) error {
	r.last = max(uint64(at.UnixNano()), r.last+1)
	return put(r.d.maps.TestInputs, uint32(0), &lbTestInput{Now: r.last, Random: r.random})
}
