package datapath_test

import (
	"testing"
	"time"

	"github.com/tinylb/tinylb/internal/packet"
)

const (
	noFlow  = "TX no-flow"    // a RST
	noReset = "DROP no-flow"  // for a RST there is none
	notOurs = "PASS not-ours" // an answer without a flow: the host's own, for all we know
	instant = time.Nanosecond
)

// lives are flows of TCP, and what becomes of them as time passes. The
// timeouts are those of config().
func lives() map[string][]step {
	const (
		syn, ack, fin, rst = packet.SYN, packet.ACK, packet.FIN | packet.ACK, packet.RST
		synAck             = packet.SYN | packet.ACK
	)
	opened := []step{{0, client, syn, newFlow}}
	answered := append(opened[:1:1], step{0, backend, synAck, reply})
	established := append(answered[:2:2], step{0, client, ack, forwarded})
	clientClosing := append(established[:3:3], step{0, client, fin, forwarded})
	backendClosing := append(established[:3:3], step{0, backend, fin, reply})
	closed := append(clientClosing[:4:4], step{0, backend, fin, reply})
	then := func(before []step, more ...step) []step { return append(before[:len(before):len(before)], more...) }

	return map[string][]step{
		"no flow: ACK":            {{0, client, ack, noFlow}},
		"no flow: SYN-ACK":        {{0, client, synAck, noFlow}},
		"no flow: FIN":            {{0, client, fin, noFlow}},
		"no flow: RST":            {{0, client, rst, noReset}},
		"no flow: SYN and FIN":    {{0, client, syn | packet.FIN, noFlow}},
		"no flow: SYN and RST":    {{0, client, syn | rst, noReset}},
		"no flow: no flags":       {{0, client, 0, noFlow}},
		"opens: SYN with ECN":     {{0, client, syn | packet.ECE | packet.CWR, newFlow}},
		"opens: SYN with PSH,URG": {{0, client, syn | packet.PSH | packet.URG, newFlow}},

		"unconfirmed, SYN: at its end":  then(opened, step{time.Minute, client, ack, forwarded}),
		"unconfirmed, SYN: after it":    then(opened, step{time.Minute + instant, client, ack, noFlow}),
		"unconfirmed, SYN: new one":     then(opened, step{time.Minute + instant, client, syn, newFlow}),
		"unconfirmed, SYN: late answer": then(opened, step{time.Minute + instant, backend, synAck, notOurs}),
		"unconfirmed, SYN-ACK: at its end": then(answered,
			step{time.Minute, client, ack, forwarded}),
		"unconfirmed, SYN-ACK: after it": then(answered,
			step{time.Minute + instant, client, ack, noFlow}),
		"unconfirmed: each packet renews it": then(opened,
			step{time.Minute, client, syn, forwarded},
			step{time.Minute, backend, synAck, reply},
			step{time.Minute, client, syn, forwarded}, // does not confirm it
			step{time.Minute + instant, client, ack, noFlow}),
		"unconfirmed: data before any answer does not confirm it": then(opened,
			step{0, client, ack, forwarded},
			step{time.Minute + instant, client, ack, noFlow}),

		"established: at its end":  then(established, step{2 * time.Hour, client, ack, forwarded}),
		"established: after it":    then(established, step{2*time.Hour + instant, client, ack, noFlow}),
		"established: the backend": then(established, step{2 * time.Hour, backend, ack, reply}),
		"established: the backend, after it": then(established,
			step{2*time.Hour + instant, backend, ack, notOurs},
			step{0, client, ack, noFlow}),
		"established: each side renews it": then(established,
			step{2 * time.Hour, backend, ack, reply},
			step{2 * time.Hour, client, ack, forwarded},
			step{2 * time.Hour, client, ack, forwarded}),
		"established: SYN stays with it": then(established,
			step{0, client, syn, forwarded},
			step{0, backend, ack, reply}), // the challenge ACK of RFC 5961

		"half closed by the client: at its end":  then(clientClosing, step{4 * time.Minute, backend, ack, reply}),
		"half closed by the client: after it":    then(clientClosing, step{4*time.Minute + instant, backend, ack, notOurs}),
		"half closed by the backend: at its end": then(backendClosing, step{4 * time.Minute, client, ack, forwarded}),
		"half closed by the backend: after it":   then(backendClosing, step{4*time.Minute + instant, client, ack, noFlow}),
		"half closed: retransmitted FIN": then(clientClosing,
			step{4 * time.Minute, client, fin, forwarded},
			step{4 * time.Minute, client, fin, forwarded},
			step{4 * time.Minute, backend, ack, reply}),
		"half closed: SYN stays with it": then(clientClosing, step{0, client, syn, forwarded}),

		"closed: at its end":       then(closed, step{10 * time.Second, client, ack, forwarded}),
		"closed: after it":         then(closed, step{10*time.Second + instant, client, ack, noFlow}),
		"closed: late from server": then(closed, step{10 * time.Second, backend, fin, reply}),
		"closed: SYN begins anew":  then(closed, step{0, client, syn, newFlow}, step{0, backend, synAck, reply}),
		"closed: lives on the new flow's time": then(closed,
			step{0, client, syn, newFlow},
			step{0, backend, synAck, reply},
			step{0, client, ack, forwarded},
			step{2 * time.Hour, client, ack, forwarded}),
		"closed by the backend first": then(backendClosing,
			step{0, client, fin, forwarded},
			step{10*time.Second + instant, client, ack, noFlow}),

		"reset by the client":     then(established, step{0, client, rst, forwarded}, step{10*time.Second + instant, client, ack, noFlow}),
		"reset by the backend":    then(established, step{0, backend, rst, reply}, step{10*time.Second + instant, backend, ack, notOurs}),
		"reset, then SYN":         then(established, step{0, backend, rst, reply}, step{0, client, syn, newFlow}),
		"reset at its end":        then(established, step{0, backend, rst, reply}, step{10 * time.Second, client, ack, forwarded}),
		"refused":                 then(opened, step{0, backend, rst | ack, reply}, step{0, client, syn, newFlow}),
		"refused, and tried late": then(opened, step{0, backend, rst | ack, reply}, step{10*time.Second + instant, client, ack, noFlow}),
	}
}

func TestTCPLife(t *testing.T) {
	b := start(t, config(web(backendA, backendB)))
	n := 0
	for name, steps := range lives() {
		n++
		t.Run(name, func(t *testing.T) {
			b.in(t).tcp(clientAt(n), webVIP).play(steps...)
		})
	}
}

func TestUDPLife(t *testing.T) {
	b := start(t, config(dns("10.0.0.2:53", "10.0.0.3:53")))
	n := 0
	question, answer := step{0, client, 0, newFlow}, step{0, backend, 0, reply}
	for name, steps := range map[string][]step{
		"a question: at its end": {question, {30 * time.Second, client, 0, forwarded}},
		"a question: after it":   {question, {30*time.Second + instant, client, 0, newFlow}},
		"an answer: at its end":  {question, {30 * time.Second, backend, 0, reply}},
		"an answer: after it":    {question, {30*time.Second + instant, backend, 0, notOurs}},
		"answered: at its end":   {question, answer, {30 * time.Second, backend, 0, reply}},
		"answered: after it":     {question, answer, {30*time.Second + instant, client, 0, newFlow}},
		"questions make no stream": {
			question,
			{0, client, 0, forwarded},
			{0, client, 0, forwarded},
			{30*time.Second + instant, client, 0, newFlow},
		},
		"a stream: at its end": {question, answer, {0, client, 0, forwarded}, {2 * time.Minute, client, 0, forwarded}},
		"a stream: after it":   {question, answer, {0, client, 0, forwarded}, {2*time.Minute + instant, client, 0, newFlow}},
		"a stream: the backend renews it": {
			question, answer,
			{0, client, 0, forwarded},
			{2 * time.Minute, backend, 0, reply},
			{2 * time.Minute, backend, 0, reply},
		},
		"a stream: too late an answer": {
			question, answer,
			{0, client, 0, forwarded},
			{2*time.Minute + instant, backend, 0, notOurs},
			{0, client, 0, newFlow},
		},
	} {
		n++
		t.Run(name, func(t *testing.T) {
			b.in(t).udp(clientAt(n), dnsVIP).play(steps...)
		})
	}
}

// Timeouts are knobs: a change holds for flows that are there already.
func TestTimeoutsCanBeChanged(t *testing.T) {
	b := start(t, config(web(backendA)))
	c := b.tcp(aClient, webVIP).establish()
	cfg := b.cfg
	cfg.Timeouts.TCPEstablished = 10 * time.Minute
	b.apply(cfg)
	c.play(
		step{10 * time.Minute, client, packet.ACK, forwarded},
		step{10*time.Minute + instant, client, packet.ACK, noFlow},
	)
}

// A retransmitted SYN is the same connection: same backend, same source port.
func TestRetransmittedSYN(t *testing.T) {
	b := start(t, config(web(backendA, backendB)))
	for n := range 20 {
		c := b.tcp(clientAt(n), webVIP)
		c.play(
			step{0, client, packet.SYN, newFlow},
			step{time.Second, client, packet.SYN, forwarded},
			step{3 * time.Second, client, packet.SYN, forwarded},
			step{0, backend, packet.SYN | packet.ACK, reply},
		)
	}
}
