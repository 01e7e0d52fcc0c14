package simulate

import (
	"bytes"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/tinylb/tinylb/internal/lb"
	"github.com/tinylb/tinylb/internal/packet"
)

func vlans(ids ...uint16) (tags []packet.Tag) {
	for _, id := range ids {
		tags = append(tags, packet.VLAN(id))
	}
	return tags
}

// A static next hop with a VLAN: clients in VLAN 10, or in none, backends in another one on the same wire or on another one.
func TestNextHopVLAN(t *testing.T) {
	number := func(id uint16) *uint16 { return &id }
	for name, tt := range map[string]struct {
		options        Options
		client, answer []packet.Tag // that frames come with
		toBackend      []packet.Tag // that they leave with
		verdict        string
	}{
		"as they came":    {Options{}, vlans(10), vlans(10), vlans(10), "TX"},
		"from 10 to 20":   {Options{NextHopVLAN: number(20)}, vlans(10), vlans(20), vlans(20), "TX"},
		"out by another":  {Options{NextHopVLAN: number(20), OutInterface: true}, vlans(10), vlans(20), vlans(20), "REDIRECT"},
		"popped":          {Options{NextHopVLAN: number(0)}, vlans(10), nil, nil, "TX"},
		"pushed":          {Options{NextHopVLAN: number(4094)}, nil, vlans(4094), vlans(4094), "TX"},
		"two tags to one": {Options{NextHopVLAN: number(20)}, vlans(10, 11), vlans(20), vlans(20), "TX"},
		"stays untagged":  {Options{NextHopVLAN: number(0)}, nil, nil, nil, "TX"},
	} {
		t.Run(name, func(t *testing.T) {
			s := simulator(t, tutorial(), tt.options)
			request := packet.NewTCP(netip.MustParseAddrPort("192.17.0.4:40000"), netip.MustParseAddrPort("192.17.0.5:80"), packet.SYN, "")
			request.SrcMAC, request.DstMAC, request.VLAN = lb.MAC{2, 0, 0, 0, 0, 4}, lb.MAC{2, 0, 0, 0, 0, 5}, tt.client
			step, err := s.Run(packet.Record{Time: time.Unix(1, 0), Data: request.Frame()})
			if err != nil || step.Verdict != tt.verdict {
				t.Fatalf("got %+v, error %v; want %s", step, err, tt.verdict)
			}
			arrived, err := packet.Read(step.Frame)
			if err != nil || !slices.Equal(arrived.VLAN, tt.toBackend) {
				t.Fatalf("toward the backend: tags %v, error %v; want %v", arrived.VLAN, err, tt.toBackend)
			}
			answer := arrived.Reply(packet.SYN|packet.ACK, "")
			answer.DstMAC, answer.VLAN = request.DstMAC, tt.answer
			step, err = s.Run(packet.Record{Time: time.Unix(2, 0), Data: answer.Frame()})
			if err != nil || step.Verdict != "TX" {
				t.Fatalf("got %+v, error %v; want TX", step, err)
			}
			back, err := packet.Read(step.Frame)
			if err != nil || !slices.Equal(back.VLAN, tt.client) || packet.Verify(step.Frame) != nil {
				t.Errorf("toward the client: tags %v, errors %v, %v; want %v", back.VLAN, err, packet.Verify(step.Frame), tt.client)
			}
		})
	}
}

// Who asks everybody is told the MAC that the capture's frames went to.
func TestNeighbourIsToldTheCapturesMAC(t *testing.T) {
	own, asker := lb.MAC{2, 0, 0, 0, 0, 5}, lb.MAC{2, 0, 0, 0, 0, 4}
	request := slices.Concat([]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, asker[:], []byte{8, 6, 0, 1, 8, 0, 6, 4, 0, 1},
		asker[:], []byte{192, 17, 0, 4}, make([]byte, 6), []byte{192, 17, 0, 5})
	later := packet.NewTCP(netip.MustParseAddrPort("192.17.0.4:40000"), netip.MustParseAddrPort("192.17.0.5:80"), packet.SYN, "")
	later.SrcMAC, later.DstMAC = asker, own
	capture := packet.File{Records: []packet.Record{{Data: request}, {Data: later.Frame()}}}
	for name, tt := range map[string]struct {
		capture packet.File
		told    lb.MAC
	}{
		"a frame for it": {capture, own},
		"questions only": {packet.File{Records: capture.Records[:1]}, lb.MAC{2, 0, 0, 0, 0, 2}},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := tutorial()
			cfg.Answers.Neighbours = true
			s := simulator(t, cfg, Options{InterfaceMAC: InterfaceMAC(tt.capture)})
			step, err := s.Run(capture.Records[0])
			if err != nil || step.Verdict != "TX" || step.Reason != "neighbour" {
				t.Fatalf("got %+v, error %v", step, err)
			}
			if !bytes.Equal(step.Frame[6:12], tt.told[:]) || !bytes.Equal(step.Frame[22:28], tt.told[:]) {
				t.Errorf("the answer % x does not tell %v", step.Frame, tt.told)
			}
		})
	}
}
