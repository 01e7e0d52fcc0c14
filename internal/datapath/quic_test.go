package datapath_test

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/tinylb/tinylb/internal/lb"
	"github.com/tinylb/tinylb/internal/packet"
)

// quicService has four backends whose server ids are of a length, in hexadecimal all the same digit.
func quicService(forward lb.Forward, w wire, length int) lb.Service {
	s := service("quic", "203.0.113.5:443", lb.UDP)
	s.Forward, s.QUIC = forward, lb.QUIC{ConfigID: 5, ServerIDLength: uint8(length)}
	s.Address.Addr, s.ServerIDs = w.of(s.Address.Addr), map[netip.AddrPort]string{}
	for i := range 4 {
		s.Backends = append(s.Backends, lb.Backend{
			Name:    string(rune('a' + i)),
			Address: w.at(netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, 0, byte(10 + i)}), 443)),
			Weight:  1,
		})
		s.ServerIDs[s.Backends[i].Address] = strings.Repeat(fmt.Sprint(i+1), 2*length)
	}
	return s
}

// connectionID is as the backend with that number makes them.
func connectionID(s lb.Service, number int) string {
	id := strings.Repeat(string(rune(number*0x11)), int(s.QUIC.ServerIDLength))
	return string(rune(s.QUIC.ConfigID<<5|9)) + id
}

func shortHeader(id string) string { return "\x43" + id + "0123456789abcdefghij" }

func longHeader(id string) string {
	return "\xc3\x00\x00\x00\x01" + string(rune(len(id))) + id + "\x00rest"
}

// bytes of a text whose runes are all below 256.
func bytesOf(text string) (b []byte) {
	for _, r := range text {
		b = append(b, byte(r))
	}
	return b
}

// quicClient is one at an address.
type quicClient struct {
	*balancer
	s      lb.Service
	client netip.AddrPort
}

func (c quicClient) frame(payload string) []byte {
	p := packet.NewUDP(c.client, netip.AddrPortFrom(c.s.Address.Addr, 443), string(bytesOf(payload)))
	p.DstMAC = localMAC()
	return p.Frame()
}

// sends wants a packet to reach a backend; "" is any.
func (c quicClient) sends(payload, reason, backend string) string {
	c.t.Helper()
	got, _ := c.run(c.frame(payload))
	if got.reason != reason || backend != "" && got.backend != backend {
		c.t.Fatalf("% x: got %s to %q, want %s to %q", bytesOf(payload), got.reason, got.backend, reason, backend)
	}
	return got.backend
}

// eachQUIC runs a test for each way in which services with QUIC can be forwarded, with server ids of several lengths.
func eachQUIC(t *testing.T, test func(t *testing.T, b *balancer, s lb.Service, at func(n int) quicClient)) {
	for i, forward := range lb.Forwards() {
		for j, w := range families() {
			length := []int{1, 15, 2, 8}[(i+2*j)%4]
			t.Run(fmt.Sprintf("%s over %s, %d bytes", forward, w.name, length), func(t *testing.T) {
				t.Parallel()
				s := quicService(forward, w, length)
				b := start(t, config(s))
				test(t, b, s, func(n int) quicClient { return quicClient{b, s, w.at(netip.MustParseAddrPort(clientAt(n)))} })
			})
		}
	}
}

// A client keeps its backend when it gets another address, since its packets name it.
func TestQUICClientMoves(t *testing.T) {
	eachQUIC(t, func(_ *testing.T, _ *balancer, s lb.Service, at func(int) quicClient) {
		for n := range 40 {
			backend := at(n).sends(longHeader("\x00random!"), "new-flow", "") // an id that the client has made up
			number := int(backend[0]-'a') + 1
			own := connectionID(s, number) + "nonce"
			at(n).sends(longHeader(own), "forwarded", backend)
			at(n).sends(shortHeader(own), "forwarded", backend)
			at(n).sends(shortHeader(own), "forwarded", backend)
			at(1000+n).sends(shortHeader(own), "new-flow", backend)
			at(1000+n).sends(shortHeader(own), "forwarded", backend)
			at(2000+n).sends(longHeader(own), "new-flow", backend)
			at(3000+n).sends("\x43"+connectionID(s, number), "new-flow", backend) // and nothing behind it
		}
	})
}

// Where a NAT gives an address and port to a client with another connection, each packet goes to its own.
func TestQUICClientsShareAnAddress(t *testing.T) {
	eachQUIC(t, func(_ *testing.T, _ *balancer, s lb.Service, at func(int) quicClient) {
		c := at(1)
		c.sends(shortHeader(connectionID(s, 1)), "new-flow", "a")
		c.sends(shortHeader(connectionID(s, 1)), "forwarded", "a")
		c.sends(shortHeader(connectionID(s, 3)), "new-flow", "c")
		c.sends(shortHeader(connectionID(s, 3)), "forwarded", "c")
		c.sends(longHeader(connectionID(s, 2)+"xy"), "new-flow", "b")
		c.sends("\x43", "forwarded", "b")
		c.sends("", "forwarded", "b")
	})
}

// Who is not named gets what comes by the hash, and a flow stays where it is.
func TestQUICUnknownIDs(t *testing.T) {
	eachQUIC(t, func(t *testing.T, b *balancer, s lb.Service, at func(int) quicClient) {
		plain := s
		plain.QUIC, plain.ServerIDs = lb.QUIC{}, nil
		named := s
		id := connectionID(named, 2)
		payloads := map[string]string{
			"another config":            shortHeader("\x20" + id[1:]),
			"the config of nobody":      shortHeader(string(rune(0xe0)) + id[1:]),
			"another server":            shortHeader(id[:len(id)-1] + "\x05"),
			"a client's own":            longHeader("\x01"),
			"none":                      longHeader(""),
			"cut off":                   "\x43" + id[:len(id)-1],
			"too short":                 longHeader(id[:len(id)-1]),
			"longer than the datagram":  "\xc3\x00\x00\x00\x01" + string(rune(len(bytesOf(id))+1)) + id,
			"a long header's beginning": "\xc3\x00\x00\x00\x01",
			"nothing":                   "",
		}
		fresh, n := start(t, config(named)), 0
		for name, payload := range payloads {
			n++
			b.apply(config(plain))
			want := at(n).sends(payload, "new-flow", "")
			b.apply(config(named))
			at(n).sends(payload, "forwarded", want)
			if got := (quicClient{fresh, named, at(n).client}).sends(payload, "new-flow", ""); got != want {
				t.Errorf("%s: went to %s, by the hash it is %s", name, got, want)
			}
		}
	})
}

// A backend that takes no new flows keeps its connections; one that cannot be reached is not named.
func TestQUICDrainedAndUnusable(t *testing.T) {
	eachQUIC(t, func(_ *testing.T, b *balancer, s lb.Service, at func(int) quicClient) {
		s.Backends[1].Weight = 0
		b.apply(config(s))
		at(1).sends(shortHeader(connectionID(s, 2)), "new-flow", "b")
		hop := b.hops[s.Backends[1].Address.Addr()]
		b.hops[s.Backends[1].Address.Addr()] = lb.NextHop{Problem: "no answer"}
		b.apply(config(s))
		if got := at(2).sends(shortHeader(connectionID(s, 2)), "new-flow", ""); got == "b" {
			b.t.Error("a backend that cannot be reached was chosen")
		}
		at(3).sends(shortHeader(connectionID(s, 1)), "new-flow", "a")
		at(3).sends(shortHeader(connectionID(s, 2)), "forwarded", "a")
		b.hops[s.Backends[1].Address.Addr()] = hop
		b.apply(config(s))
		at(3).sends(shortHeader(connectionID(s, 2)), "new-flow", "b")

		first, second := s.Backends[0].Address, s.Backends[1].Address
		s.ServerIDs[first], s.ServerIDs[second] = s.ServerIDs[second], s.ServerIDs[first]
		b.apply(config(s))
		at(4).sends(shortHeader(connectionID(s, 2)), "new-flow", "a")
		at(5).sends(shortHeader(connectionID(s, 1)), "new-flow", "b")
		for i := range s.Backends {
			s.Backends[i].Weight = 0
		}
		b.apply(config(s))
		at(6).sends(shortHeader(connectionID(s, 3)), "new-flow", "c")
		at(7).sends(shortHeader("\x00"), "no-backend", "")
		s.Backends = s.Backends[:2]
		b.apply(config(s))
		at(8).sends(shortHeader(connectionID(s, 3)), "no-backend", "")
	})
}
