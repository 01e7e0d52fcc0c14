// Package model is the reference data plane: for every frame it says what must
// become of it, bit by bit. It is written for being read and believed, from the
// RFCs and the documentation, and shares nothing with the programs in bpf/.
//
// Where the design leaves a choice free (a source port out of the pool, which
// flow gives way when there is no room, a random backend) the model is told
// what was chosen, checks that the choice was legal, and goes on from there.
package model

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/tinylb/tinylb/internal/lb"
	"github.com/tinylb/tinylb/internal/packet"
)

// Checksums says what kind of checksums arrive at an interface, and so what is
// done with one that looks partial: one that equals the folded sum of the
// pseudo-header.
type Checksums int

const (
	// FullChecksums: a network card; nothing arrives partial.
	FullChecksums Checksums = iota
	// CompleteChecksums: a virtual interface in native mode; the checksum is
	// computed over the payload, since nobody else will.
	CompleteChecksums
	// KeepPartialChecksums: generic mode; the kernel still knows that the
	// checksum is partial, so it must stay that.
	KeepPartialChecksums
)

// Options describe the interface that frames arrive at.
type Options struct {
	Interface    int    // its index
	MAC          lb.MAC // frames to another one pass; zero: all are for it
	NeighbourMAC lb.MAC // what neighbours are told that ask everybody; zero: nothing
	Checksums    Checksums
	TXByRedirect bool // frames are sent back by REDIRECT instead of TX
}

// Outcome is what became of a frame.
type Outcome struct {
	Verdict Verdict
	Reason  Reason
	Service string   // name; "" where none was meant
	Backend string   // label; "" where none was chosen
	Frame   []byte   // as it is afterwards, wherever it goes
	Behind  [][]byte // further ones that go there, in order
}

func (o Outcome) String() string {
	return fmt.Sprintf("%s %s service=%q backend=%q", o.Verdict, o.Reason, o.Service, o.Backend)
}

// Model is a data plane at one interface. It is for one goroutine.
type Model struct {
	opts      Options
	services  []*service
	timeouts  lb.Timeouts
	limits    lb.Limits
	rates     lb.RateLimits
	answers   lb.VIPAnswers
	hostKnown bool
	mtus      map[int]int // of interfaces, by index
	now       time.Time
	flows     *flowTable
	passed    map[Reason]uint64 // packets of no service

	poolFull time.Time // until when a search that found nothing free may be believed

	clientRates map[client]*rateLimit
	kept        map[client]*keptBackend

	// What the data plane says of its own accord.
	resets, icmpErrors, echoes rateLimit

	host     []netip.Addr           // the addresses of the balancer's host
	pathMTUs map[netip.Addr]PathMTU // by backend's address

	// Fragments.
	fragments   lb.Fragments
	datagrams   map[datagramKey]*datagram
	expiredHeld []expired
	incomplete  uint64
	idsKept     int
	complaint   error

	// Imprecise counts the frames to an address of nobody's that passed for
	// another reason than not-ours. The address filter may err so, but rarely.
	Imprecise uint64
}

// New is a data plane with cfg, whose backends are reached by hops: one for
// each backend's address. The limits stay as they are in cfg.
func New(cfg lb.Config, hops map[netip.Addr]lb.NextHop, opts Options) (*Model, error) {
	m := &Model{
		opts: opts, limits: cfg.Limits, flows: newFlowTable(), passed: map[Reason]uint64{}, pathMTUs: map[netip.Addr]PathMTU{},
		clientRates: map[client]*rateLimit{}, kept: map[client]*keptBackend{},
		datagrams: map[datagramKey]*datagram{},
	}
	return m, m.Apply(cfg, hops)
}

// Check compares what became of a frame that arrived at a time, later than the
// one before, with what had to. An error explains the difference in one or more
// lines; after one the model is of no use any more.
//
// List lists the flow table as it is after the frame. It is called only where
// the model must know which flow gave way for a new one.
func (m *Model) Check(now time.Time, frame []byte, got Outcome, list func() ([]Flow, error)) error {
	m.now = now
	want, err := m.decide(parse(frame), got, list)
	if err != nil {
		return err
	}
	if err := errors.Join(compare(want.outcome(), got), m.complaint); err != nil {
		return err
	}
	m.count(want, uint64(len(frame)))
	return nil
}

func compare(want, got Outcome) error {
	var wrong []string
	if want.String() != got.String() {
		wrong = append(wrong, fmt.Sprintf("want %v\n got %v", want, got))
	}
	if len(want.Behind) != len(got.Behind) {
		wrong = append(wrong, fmt.Sprintf("want %d frames behind the first one, got %d", len(want.Behind), len(got.Behind)))
	}
	// of a frame that ends here nobody sees how far it had been rewritten
	if diff := packet.Diff(want.Frame, got.Frame); diff != "" && want.Verdict != Drop && want.Verdict != Aborted {
		wrong = append(wrong, diff)
	}
	for i := range min(len(want.Behind), len(got.Behind)) {
		if diff := packet.Diff(want.Behind[i], got.Behind[i]); diff != "" {
			wrong = append(wrong, fmt.Sprintf("frame %d behind the first one: %s", i+1, diff))
		}
	}
	if len(wrong) == 0 {
		return nil
	}
	return fmt.Errorf("%s", strings.Join(wrong, "\n"))
}
