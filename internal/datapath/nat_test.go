package datapath_test

import (
	"bytes"
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/tinylb/tinylb/internal/lb"
	"github.com/tinylb/tinylb/internal/packet"
)

// The whole life of one connection and one exchange, packet by packet.
func TestNAT(t *testing.T) {
	b := start(t, bothFamilies(config(web(backendA), dns("10.0.0.2:5353"))))
	for _, w := range wires() {
		t.Run(w.name, func(t *testing.T) {
			b.in(t)
			c := b.tcp(aClient, webVIP).over(w)
			c.play(
				step{0, client, packet.SYN, newFlow},
				step{0, backend, packet.SYN | packet.ACK, reply},
				step{0, client, packet.ACK, forwarded},
			)
			c.expect(forwarded, c.request(packet.PSH|packet.ACK, "GET / HTTP/1.1\r\n\r\n"))
			c.expect(reply, c.answer(packet.ACK, ""))
			c.expect(reply, c.answer(packet.PSH|packet.ACK, "HTTP/1.1 200 OK\r\n\r\n"))
			c.play(
				step{0, backend, packet.FIN | packet.ACK, reply},
				step{0, client, packet.FIN | packet.ACK, forwarded},
				step{0, backend, packet.ACK, reply},
			)
			d := b.udp(aClient, dnsVIP).over(w)
			d.expect(newFlow, d.request(0, "question"))
			d.expect(reply, d.answer(0, "answer"))
			d.expect(forwarded, d.request(0, "another"))
			d.expect(reply, d.answer(0, "one"))
		})
	}
}

// variants are packets that the data plane must not treat in a special way.
// Some change what only one family has, and nothing in the other.
func variants() map[string]func(*packet.Packet) {
	all := map[string]func(*packet.Packet){
		"TOS":                func(p *packet.Packet) { p.TOS = 0xb8 },
		"flow label":         func(p *packet.Packet) { p.FlowLabel = 0xfedcb },
		"ECN":                func(p *packet.Packet) { p.TOS = 0x03 },
		"TTL 2":              func(p *packet.Packet) { p.TTL = 2 },
		"TTL 255":            func(p *packet.Packet) { p.TTL = 255 },
		"id":                 func(p *packet.Packet) { p.ID = 0xfffe },
		"DF":                 func(p *packet.Packet) { p.DontFragment = true },
		"no DF":              func(p *packet.Packet) { p.DontFragment = false },
		"reserved flag":      func(p *packet.Packet) { p.ReservedFlag = true },
		"padding":            func(p *packet.Packet) { p.Trailer = make([]byte, 6) },
		"dirty padding":      func(p *packet.Packet) { p.Trailer = bytes.Repeat([]byte{0xa5}, 18) },
		"one byte behind IP": func(p *packet.Packet) { p.Trailer = []byte{1} },
		"all at once": func(p *packet.Packet) {
			p.TOS, p.ID, p.TTL, p.FlowLabel = 0xb8, 7, 3, 1
			p.IPOptions, p.TCPOptions = []byte{7, 7, 4, 1, 2, 3, 4}, []byte{2, 4, 5, 0xb4}
			p.Payload, p.Trailer = []byte("odd"), []byte("behind")
		},
	}

	for words := 1; words <= 10; words++ {
		options := bytes.Repeat([]byte{1}, 4*words) // no operation
		all[fmt.Sprintf("IP header of %d words", 5+words)] = func(p *packet.Packet) { p.IPOptions = options }
		all[fmt.Sprintf("TCP header of %d words", 5+words)] = func(p *packet.Packet) { p.TCPOptions = options }
	}
	for _, size := range []int{1, 2, 3, 5, 17, 1399, 1460} {
		all[fmt.Sprintf("%d bytes", size)] = func(p *packet.Packet) { p.Payload = pattern(size) }
	}
	return all
}

// pattern is a payload whose 16-bit words are all different.
func pattern(size int) []byte {
	out := make([]byte, size)
	for i := range out {
		out[i] = byte(i*31 + i>>8*7 + 1)
	}
	return out
}

func TestPacketsKeepTheirShape(t *testing.T) {
	b := start(t, webAndDNS())
	for _, c := range b.conversations(wires()) {
		for name, change := range variants() {
			t.Run(c.String()+" "+name, func(t *testing.T) {
				c.in(t)
				in := c.request(packet.ACK, "")
				change(&in)
				c.expect(forwarded, in)
				in = c.answer(packet.ACK, "")
				change(&in)
				c.expect(reply, in)
			})
		}
	}
}

// TCP's flags and fields beyond what the flow's state is read from.
func TestTCPFieldsAreKept(t *testing.T) {
	b := start(t, bothFamilies(config(web(backendA))))
	for _, w := range families() {
		c := b.tcp(aClient, webVIP).over(w).establish()
		for _, flags := range []packet.TCPFlags{
			packet.ACK, packet.PSH | packet.ACK, packet.ACK | packet.URG, packet.ACK | packet.ECE | packet.CWR,
			packet.ACK | 0x100, packet.ACK | 0xe00, 0,
		} {
			for _, fill := range []uint32{0, 1, 0x7fffffff, 0xffffffff} {
				in := c.request(flags, "x")
				in.Seq, in.Ack, in.Window, in.Urgent = fill, ^fill, uint16(fill), uint16(^fill)
				c.expect(forwarded, in)
				in = c.answer(flags, "y")
				in.Seq, in.Ack, in.Window, in.Urgent = fill, ^fill, uint16(fill), uint16(^fill)
				c.expect(reply, in)
			}
		}
	}
}

// Frames of more than one buffer, up to the largest that IP has.
func TestBigFrames(t *testing.T) {
	b := start(t, webAndDNS())
	for _, c := range b.conversations(wires()) {
		for _, size := range []int{3000, 3400, 3500, 3600, 4096, 8000, 8960, 9001, 16384, 40001, 65495} {
			c.expect(forwarded, c.request(packet.ACK, string(pattern(size))))
			c.expect(reply, c.answer(packet.ACK, string(pattern(size))))
		}
	}
}

func TestClientsShareASourcePort(t *testing.T) {
	b := start(t, bothFamilies(config(web(backendA, backendB))))
	var all []*conversation
	for n := range 50 {
		for _, w := range families() {
			all = append(all, b.tcp(clientAt(n), webVIP).over(w).open())
		}
	}
	for _, c := range all {
		c.play(step{0, backend, packet.SYN | packet.ACK, reply})
	}
	for _, c := range all {
		c.play(step{0, client, packet.ACK, forwarded}, step{0, backend, packet.ACK, reply})
	}
}

func TestServicesSideBySide(t *testing.T) {
	both := service("both", "203.0.113.6:443", lb.TCP, "10.0.0.4:8443")
	both.Protocols = []lb.Protocol{lb.TCP, lb.UDP}
	b := start(t, bothFamilies(config(
		web(backendA),
		dns("10.0.0.2:5353"),
		service("alt", "203.0.113.5:8080", lb.TCP, backendB), // the same VIP
		both,
		service("shared", "203.0.113.7:80", lb.TCP, backendA), // the same backend
	)))
	var all []*conversation
	for _, w := range families() {
		first, last := b.tcp(aClient, webVIP), b.tcp(aClient, "203.0.113.7:80")
		for _, c := range []*conversation{
			first, b.udp(aClient, dnsVIP), b.tcp(aClient, "203.0.113.5:8080"),
			b.tcp(aClient, "203.0.113.6:443"), b.udp(aClient, "203.0.113.6:443"), last,
		} {
			all = append(all, c.over(w).establish())
		}
		if first.source == last.source {
			t.Errorf("two services share a backend, and both use the source %v toward it", first.source)
		}
	}
	for _, c := range all {
		c.play(step{0, backend, packet.ACK, reply}, step{0, client, packet.ACK, forwarded})
	}
}

// The source address may be the VIP, as in the tutorial.
func TestVIPAsSource(t *testing.T) {
	b := start(t, bothFamilies(config(withSources(web(backendA, backendB), "203.0.113.5"))))
	for _, w := range families() {
		c := b.tcp(aClient, webVIP).over(w).establish()
		c.play(step{0, backend, packet.FIN | packet.ACK, reply}, step{0, client, packet.FIN | packet.ACK, forwarded})
	}
}

func TestExtraSourcesAreAllUsed(t *testing.T) {
	sources := []string{"10.0.0.5", "10.0.0.6", "10.0.1.7"}
	b := start(t, bothFamilies(config(withSources(withPorts(web(backendA), 2000, 2009), sources...))))
	for _, w := range families() {
		used := map[netip.AddrPort]bool{}
		for n := range 30 {
			c := b.tcp(clientAt(n), webVIP).over(w).establish()
			used[c.source] = true
		}
		if len(used) != 30 {
			t.Errorf("30 flows over %s use %d sources of 3 addresses with 10 ports each", w.name, len(used))
		}
		b.tcp(clientAt(30), webVIP).over(w).play(step{0, client, packet.SYN, snatExhausted})
	}
}

// An answer must never look like a request to a service.
func TestSourceIsNeverAService(t *testing.T) {
	vip := strings.TrimSuffix(webVIP, ":80")
	cfg := config(withSources(withPorts(web(backendA), 78, 82), vip), service("udp80", webVIP, lb.UDP, "10.0.0.9:80"))
	for name, tc := range map[string]struct {
		change   func(*lb.Config)
		sources  []string
		unusable int
	}{
		"the VIP":                    {sources: []string{vip}, unusable: 1},
		"the VIP and another":        {sources: []string{vip, source}, unusable: 1},
		"two VIPs":                   {sources: []string{vip, "203.0.113.6"}, unusable: 2},
		"a VIP with UDP on the port": {sources: []string{"203.0.113.8"}},
		"no VIP":                     {sources: []string{source}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg := cfg
			cfg.Services = append([]lb.Service{
				service("other", "203.0.113.6:81", lb.TCP, "10.0.0.9:80"),
				service("udp", "203.0.113.8:80", lb.UDP, "10.0.0.9:80"),
			}, cfg.Services...)
			cfg.Services[2] = withSources(cfg.Services[2], tc.sources...)
			b := start(t, bothFamilies(cfg))
			for _, w := range families() {
				usable := 5*len(tc.sources) - tc.unusable
				for n := range usable {
					b.tcp(clientAt(n), webVIP).over(w).establish()
				}
				b.tcp(clientAt(usable), webVIP).over(w).play(step{0, client, packet.SYN, snatExhausted})
			}
		})
	}
}

// One source port serves every backend address:port at the same time.
func TestPortServesEveryBackend(t *testing.T) {
	addresses := []string{"10.0.0.2:80", "10.0.0.2:81", "10.0.0.3:80"}
	b := start(t, config(withPorts(web(addresses...), 2000, 2000), withPorts(dns("10.0.0.2:80"), 2000, 2000)))
	taken := map[netip.AddrPort]*conversation{}
	for n := 0; len(taken) < len(addresses); n++ {
		if n == 100 {
			t.Fatalf("100 clients got only to %v", taken)
		}
		c := b.tcp(clientAt(n), webVIP)
		got, frame := b.run(c.request(packet.SYN, "").Frame())
		if got.fate() != newFlow {
			continue // its backend is taken already
		}
		c.learn(got, frame)
		c.play(step{0, client, packet.SYN, forwarded}, step{0, backend, packet.SYN | packet.ACK, reply}, step{0, client, packet.ACK, forwarded})
		taken[c.backend.Address] = c
	}
	d := b.udp(aClient, dnsVIP).open()
	for _, c := range taken {
		c.play(step{0, backend, packet.ACK, reply}, step{0, client, packet.ACK, forwarded})
	}
	d.play(step{0, backend, 0, reply})
}
