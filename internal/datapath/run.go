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

// Frame is one as it is after the data plane was done with it.
type Frame struct {
	Data   []byte
	ToHost bool // it went up to the host's own stack
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
	emit    *ebpf.Program
	emitted *ebpf.Map
	random  uint64
	last    uint64
	out     []byte
}

// LoopbackIndex is the interface that a Runner's packets arrive at.
const LoopbackIndex = 1

// maxFrame is the largest frame that the kernel's test-run takes and may return.
const maxFrame = 17*4096 + 4096

// NewRunner loads the programs, one with the test clock, the other sending nothing.
func (d *Datapath) NewRunner(opts RunnerOptions) (*Runner, error) {
	if keys := (lbHashKeys{Key: opts.HashKeys}); keys != (lbHashKeys{}) {
		if err := put(d.maps.AllHashKeys, uint32(0), &keys); err != nil {
			return nil, err
		}
	}
	k := opts.Attachment.knobs()
	k.testClock, k.recordDecisions = true, true
	program, err := d.load(k)
	if err != nil {
		return nil, err
	}
	r := &Runner{d: d, program: program, random: opts.Seed, out: make([]byte, maxFrame)}
	if err := r.openEmit(); err != nil {
		return nil, errors.Join(err, r.Close())
	}
	return r, nil
}

// Close frees the programs.
func (r *Runner) Close() error {
	return errors.Join(r.program.Close(), r.emit.Close(), r.emitted.Close(), r.sweeper.Close())
}

func (r *Runner) openEmit() error {
	spec, err := loadEmit()
	if err != nil {
		return fmt.Errorf("read the BPF object: %w", err)
	}
	emitted := spec.Maps["emitted"]
	emitted.MaxEntries = r.d.maps.FrameSlots.MaxEntries()
	if r.emitted, err = ebpf.NewMap(emitted); err != nil {
		return fmt.Errorf("create map emitted: %w", err)
	}
	r.emit, err = r.d.loadEmit(r.emitted)
	return err
}

// ErrFrame says that the kernel does not take a frame of this size.
var ErrFrame = errors.New("the kernel does not run a frame of this size")

// Run gives one frame, at least 14 bytes, to the programs at the given time. It returns
// what they decided and the frame as it is then or, where stored frames went on with
// it, all those, in order. Time never stands still: of two packets at the same instant the
// second is a nanosecond later.
func (r *Runner) Run(at time.Time, frame []byte) (Decision, []Frame, error) {
	// per-CPU state, such as the kernel's redirect target, must stay in one place
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()

	if err := r.setClock(at); err != nil {
		return Decision{}, nil, err
	}
	action, out, err := r.runProgram(r.program, frame)
	if err != nil {
		return Decision{}, nil, err
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
	decision := Decision{Verdict: Verdict(d.Verdict), Reason: Reason(d.Reason), Service: d.Service, Backend: d.Backend}
	if d.IsParcel != 0 && Verdict(action) == Verdict(lbVerdictVERDICT_PASS) {
		frames, err := r.runEmit(out)
		if err == nil && len(frames) == 0 {
			err = errors.New("a parcel with no frames")
		}
		for _, frame := range frames {
			if frame.ToHost == decision.Verdict.Sends() {
				err = fmt.Errorf("%s, but a frame went elsewhere", decision.Verdict)
			}
		}
		return decision, frames, err
	}
	if uint32(d.Verdict) != action {
		return Decision{}, nil, fmt.Errorf("the program returned %d but recorded %s", action, decision.Verdict)
	}
	toHost := decision.Verdict == Verdict(lbVerdictVERDICT_PASS)
	return decision, []Frame{{Data: append([]byte(nil), out...), ToHost: toHost}}, nil
}

// runProgram returns what the program said and, until the next run, the frame.
func (r *Runner) runProgram(program *ebpf.Program, frame []byte) (uint32, []byte, error) {
	opts := ebpf.RunOptions{Data: frame, DataOut: r.out, Repeat: 1}
	action, err := program.Run(&opts)
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOMEM) {
		return 0, nil, fmt.Errorf("%w: %d bytes", ErrFrame, len(frame))
	}
	if err != nil {
		return 0, nil, fmt.Errorf("run the program: %w", err)
	}
	return action, opts.DataOut, nil
}

// runEmit lists the frames of a parcel.
func (r *Runner) runEmit(parcel []byte) ([]Frame, error) {
	const shot = 2 // TC_ACT_SHOT
	action, _, err := r.runProgram(r.emit, parcel)
	if err != nil {
		return nil, err
	}
	if action != shot {
		return nil, fmt.Errorf("the program that sends stored frames returned %d", action)
	}
	var frames []Frame
	for i := range r.emitted.MaxEntries() {
		var e, none emitEmittedFrame
		if err := r.emitted.Lookup(i, &e); err != nil {
			return nil, fmt.Errorf("read what was emitted: %w", err)
		}
		if e.Length == 0 {
			break
		}
		if err := r.emitted.Put(i, &none); err != nil {
			return nil, fmt.Errorf("clear what was emitted: %w", err)
		}
		frames = append(frames, Frame{Data: append([]byte(nil), e.Bytes[:e.Length]...), ToHost: e.Interface == 0})
	}
	return frames, nil
}

// setClock makes it that time, or a nanosecond later than it was.
func (r *Runner) setClock(at time.Time) error {
	r.last = max(uint64(at.UnixNano()), r.last+1)
	return put(r.d.maps.TestInputs, uint32(0), &lbTestInput{Now: r.last, Random: r.random})
}
