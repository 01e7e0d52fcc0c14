package simulate

import (
	"net/netip"
	"testing"
	"time"

	"github.com/tinylb/tinylb/internal/lb"
	"github.com/tinylb/tinylb/internal/packet"
	"github.com/tinylb/tinylb/test/need"
)

func tutorial() lb.Config {
	return lb.Config{
		Services: []lb.Service{{
			Name: "web", Address: netip.MustParseAddrPort("192.17.0.5:80"), Protocols: []lb.Protocol{lb.TCP},
			Forward: lb.ForwardNAT, Scheduler: lb.Maglev, TableSize: 251,
			SNAT: lb.SNAT{Ports: lb.PortRange{First: 1024, Last: 32767}},
			Backends: []lb.Backend{
				{Name: "backend-a", Address: netip.MustParseAddrPort("192.17.0.2:80"), Weight: 1},
				{Name: "backend-b", Address: netip.MustParseAddrPort("192.17.0.3:8080"), Weight: 1},
			},
		}},
		Timeouts: lb.Timeouts{
			TCPUnconfirmed: time.Minute, TCPEstablished: 2 * time.Hour, TCPHalfClosed: 4 * time.Minute,
			TCPClosed: time.Minute, UDPUnconfirmed: 30 * time.Second, UDPStream: 2 * time.Minute,
		},
		Limits: lb.Limits{Flows: 1024, Services: 16, Backends: 64, TableEntries: 4096},
	}
}

func TestConnectionThroughNAT(t *testing.T) {
	need.Root(t)
	s, err := New(tutorial(), Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	syn := packet.NewTCP(netip.MustParseAddrPort("192.17.0.4:40000"), netip.MustParseAddrPort("192.17.0.5:80"), packet.SYN, "")
	syn.SrcMAC, syn.DstMAC = lb.MAC{2, 0, 0, 0, 0, 4}, lb.MAC{2, 0, 0, 0, 0, 5}
	step, err := s.Run(packet.Record{Time: time.Unix(1, 0), Data: syn.Frame()})
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%+v", step)
	if err := packet.Verify(step.Frame); err != nil {
		t.Fatal(err)
	}
	got, err := packet.Read(step.Frame)
	if err != nil {
		t.Fatal(err)
	}
	t.Log(got)
	reply := got.Reply(packet.SYN|packet.ACK, "")
	reply.SrcMAC = lb.MAC{2, 0, 0, 0, 0, 1}
	step, err = s.Run(packet.Record{Time: time.Unix(1, 0), Data: reply.Frame()})
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%+v", step)
	got, err = packet.Read(step.Frame)
	t.Log(got, err)
}
