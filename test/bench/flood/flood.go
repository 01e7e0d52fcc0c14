package flood

import (
	"errors"
	"fmt"
	"time"

	"github.com/cilium/ebpf"
)

// FrameSize is that of every packet, in bytes, without Ethernet's own checksum.
const FrameSize = 64

// liveFrames is BPF_F_TEST_XDP_LIVE_FRAMES: a test-run sends what it redirects.
const liveFrames = 2

// Flood is what is sent, and by which way.
type Flood struct {
	Frame     []byte // UDP over IPv4 without options: source port 0, the payload zero
	FirstPort uint16 // the first flow's source port
	Flows     int    // each has the next port
	Interface int    // index of the one that sends
}

// Programs are those that send and count.
type Programs struct {
	objects struct {
		floodVariables
		floodMaps
		Generate *ebpf.Program `ebpf:"generate"`
		Count    *ebpf.Program `ebpf:"count"`
	}
}

// Load loads the programs. Close frees them.
func Load(f Flood) (*Programs, error) {
	if len(f.Frame) != FrameSize {
		return nil, fmt.Errorf("a frame of %d bytes, want %d", len(f.Frame), FrameSize)
	}
	spec, err := loadFlood()
	if err != nil {
		return nil, err
	}
	err = errors.Join(
		spec.Variables["template"].Set(f.Frame),
		spec.Variables["first_port"].Set(uint32(f.FirstPort)),
		spec.Variables["flows"].Set(uint32(f.Flows)),
		spec.Variables["sending_interface"].Set(uint32(f.Interface)),
	)
	if err != nil {
		return nil, err
	}
	p := &Programs{}
	if err := spec.LoadAndAssign(&p.objects, nil); err != nil {
		return nil, fmt.Errorf("load the flood: %w", err)
	}
	return p, nil
}

// Redirect loads the least that forwards packets: all to the interface with that index.
func Redirect(to int) (*ebpf.Program, error) {
	spec, err := loadFlood()
	if err != nil {
		return nil, err
	}
	if err := spec.Variables["redirect_interface"].Set(uint32(to)); err != nil {
		return nil, err
	}
	var objects struct {
		Redirect *ebpf.Program `ebpf:"redirect"`
	}
	if err := spec.LoadAndAssign(&objects, nil); err != nil {
		return nil, fmt.Errorf("load what redirects: %w", err)
	}
	return objects.Redirect, nil
}

// Close frees the programs.
func (p *Programs) Close() {
	p.objects.floodMaps.Close()
	p.objects.Generate.Close()
	p.objects.Count.Close()
}

// Count is for the interface where they end.
func (p *Programs) Count() *ebpf.Program { return p.objects.Count }

// Send sends so many packets, at least two, from the network namespace of the
// calling thread, which also does the kernel's work for them. It returns how many
// arrive per second.
func (p *Programs) Send(packets int) (perSecond float64, err error) {
	before, err := p.arrived()
	if err != nil {
		return 0, err
	}
	if err := errors.Join(p.objects.Packets.Set(uint32(packets)), p.objects.Made.Set(uint32(0))); err != nil {
		return 0, err
	}
	_, err = p.objects.Generate.Run(&ebpf.RunOptions{Data: make([]byte, FrameSize), Repeat: uint32(packets), Flags: liveFrames})
	if err != nil {
		return 0, fmt.Errorf("sending packets: %w", err)
	}
	var made uint32
	var began, ended uint64
	if err := errors.Join(p.objects.Made.Get(&made), p.objects.Began.Get(&began), p.objects.Ended.Get(&ended)); err != nil {
		return 0, err
	}
	after, err := p.arrived()
	// A test-run that a signal ends is begun again, and then makes more.
	share := float64(after-before) / float64(made)
	return share * float64(packets) / time.Duration(ended-began).Seconds(), err
}

// arrived is how many packets Count has seen.
func (p *Programs) arrived() (sum uint64, err error) {
	var perCPU []uint64
	if err := p.objects.Arrived.Lookup(uint32(0), &perCPU); err != nil {
		return 0, err
	}
	for _, n := range perCPU {
		sum += n
	}
	return sum, nil
}
