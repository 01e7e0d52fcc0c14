package config

import (
	"fmt"
	"net/netip"

	"github.com/tinylb/tinylb/internal/lb"
)

// forward returns "" for what is no mode: nothing is then held against it.
func (d *decoder) forward(n *node) lb.Forward {
	var modes []string
	for _, mode := range lb.Forwards() {
		modes = append(modes, string(mode))
	}
	word, _ := d.choice(n, modes, nil)
	return lb.Forward(word)
}

// checkForward finds what does not go with the way in which packets reach the
// backends. Settings that would be ignored are left out of the service.
func (d *decoder) checkForward(s *service) {
	if s.Forward == "" {
		return
	}
	for i, n := range s.backends {
		if n != nil && s.Address.Addr.IsValid() {
			d.checkReach(*s, n, s.Backends[i].Address)
		}
	}
	if s.snat != nil && !s.Forward.Translates() {
		d.fail(s.snat.keyAt, "remove it, or use forward: nat or dnat",
			"snat: %s leaves the client's address and port in the packet: this would be ignored", s.Forward)
		s.snat = nil
	}
	if s.tunnel != nil && !s.Forward.Tunnels() {
		d.fail(s.tunnel.keyAt, "remove it, or use forward: ipip or gue", "tunnel: %s has no tunnel: this would be ignored", s.Forward)
		s.tunnel = nil
	}
}

// checkReach finds a backend that the service's packets cannot be made to reach.
func (d *decoder) checkReach(s service, n *node, b netip.AddrPort) {
	switch {
	case s.Forward == lb.ForwardDNAT && !sameFamily(b.Addr(), s.Address.Addr):
		d.fail(n.position, fmt.Sprintf("write an %s address of the server, or use forward: nat", family(s.Address.Addr)),
			"address: the backend %s is behind the VIP %s: dnat keeps the client's address, so both must be of one family", written(b), s.Address)
	case !s.Forward.Translates() && b.Port() != 0 && s.Address.Ports != lb.OnePort(b.Port()):
		d.fail(n.position, fmt.Sprintf("write %q without a port", b.Addr()),
			"address: the backend %s is behind the VIP %s: %s does not change ports", b, s.Address, s.Forward)
	}
}

// families says of which families a service's backends are.
type families struct {
	v4, v6 bool
}

func (f families) have(addr netip.Addr) bool { return addr.Is4() && f.v4 || addr.Is6() && f.v6 }

// families has both where the file does not say it right.
func (s *service) families() families {
	var f families
	for i, n := range s.backends {
		if n == nil {
			return families{true, true}
		}
		is4 := s.Backends[i].Address.Addr().Is4()
		f = families{f.v4 || is4, f.v6 || !is4}
	}
	if f == (families{}) {
		return families{true, true}
	}
	return f
}
