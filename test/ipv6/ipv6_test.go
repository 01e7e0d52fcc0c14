// Package ipv6 runs the built program between real kernels' IPv6 stacks: what
// test/e2e does for IPv4 at length, as far as the family makes a difference.
package ipv6

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/netip"
	"testing"
	"time"

	"github.com/tinylb/tinylb/internal/lab"
	"github.com/tinylb/tinylb/internal/lb"
	"github.com/tinylb/tinylb/test/need"
)

const (
	// transferSize is how much goes each way, in bytes.
	transferSize = 50_000_000
	transferWait = time.Minute
	answerWait   = 10 * time.Second
)

func TestIPv6(t *testing.T) {
	need.Root(t)
	binary := build(t)
	for _, mode := range []lb.Mode{lb.ModeNative, lb.ModeGeneric} {
		t.Run(string(mode), func(t *testing.T) {
			n := newNetwork(t, binary, mode)
			n.serveWeb()
			n.serveUDP()
			n.run(config(mode))
			n.checkTransfers()
			n.checkDatagrams()
			n.checkStatus()
			if mode == lb.ModeNative {
				n.checkChecksums()
			}
		})
	}
}

func noise() io.Reader { return io.LimitReader(rand.NewChaCha8([32]byte{1}), transferSize) }

// sumOf is the SHA-256 of what r holds, or of what it held until it failed.
func sumOf(r io.Reader) string {
	sum := sha256.New()
	io.Copy(sum, r)
	return hex.EncodeToString(sum.Sum(nil))
}

// serveWeb runs the backend: a GET gets the noise, a POST the sum of what it
// sent. Both tell, in a header, where the request came from.
func (n *network) serveWeb() {
	n.t.Helper()
	listener, err := n.backend.Listen("tcp", "["+backendAddress+"]:8080")
	if err != nil {
		n.t.Fatal(err)
	}
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("From", r.RemoteAddr)
		if r.Method == http.MethodPost {
			io.WriteString(w, sumOf(r.Body))
			return
		}
		io.Copy(w, noise())
	})}
	go server.Serve(listener)
	n.t.Cleanup(func() { server.Close() })
}

// checkTransfers sends the noise down and up, each over a connection of its own.
func (n *network) checkTransfers() {
	n.t.Helper()
	want := sumOf(noise())
	if got := sumOf(n.request(http.MethodGet, nil)); got != want {
		n.t.Errorf("the download has the sum %s, want %s", got, want)
	}
	if got, err := io.ReadAll(n.request(http.MethodPost, noise())); err != nil || string(got) != want {
		n.t.Errorf("the upload has the sum %s (%v), want %s", got, err, want)
	}
}

// request returns the body of what the VIP answers to the client.
func (n *network) request(method string, body io.Reader) io.Reader {
	n.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), transferWait)
	n.t.Cleanup(cancel)
	request, err := http.NewRequestWithContext(ctx, method, "http://"+vip+"/", body)
	if err != nil {
		n.t.Fatal(err)
	}
	client := http.Client{Transport: &http.Transport{DialContext: n.client.DialContext, DisableKeepAlives: true}}
	answer, err := client.Do(request)
	if err != nil {
		n.t.Fatal(err)
	}
	n.t.Cleanup(func() { answer.Body.Close() })
	if from, err := netip.ParseAddrPort(answer.Header.Get("From")); err != nil || from.Addr().String() != balancerAddress {
		n.t.Errorf("the backend saw a client at %s (%v), want the balancer's own address", from, err)
	}
	return answer.Body
}

// serveUDP has the backend send every datagram back.
func (n *network) serveUDP() {
	n.t.Helper()
	socket, err := n.backend.ListenPacket("udp", "["+backendAddress+"]:8080")
	if err != nil {
		n.t.Fatal(err)
	}
	n.t.Cleanup(func() { socket.Close() })
	go func() {
		buffer := make([]byte, 2000)
		for {
			size, from, err := socket.ReadFrom(buffer)
			if err != nil {
				return
			}
			socket.WriteTo(buffer[:size], from)
		}
	}()
}

// checkDatagrams exchanges datagrams of all parities and sizes up to the MTU.
func (n *network) checkDatagrams() {
	n.t.Helper()
	conn, err := n.client.DialContext(context.Background(), "udp", vip)
	if err != nil {
		n.t.Fatal(err)
	}
	defer conn.Close()
	const largest = 1500 - 40 - 8
	for _, size := range []int{0, 1, 2, 63, 512, largest - 1, largest} {
		if err := echo(conn, make([]byte, size)); err != nil {
			n.t.Errorf("a datagram of %d bytes: %v", size, err)
		}
	}
}

func echo(conn net.Conn, sent []byte) error {
	if err := conn.SetDeadline(time.Now().Add(answerWait)); err != nil {
		return err
	}
	if _, err := conn.Write(sent); err != nil {
		return err
	}
	got := make([]byte, 2000)
	size, err := conn.Read(got)
	if err == nil && size != len(sent) {
		return fmt.Errorf("%d bytes came back", size)
	}
	return err
}

// checkStatus checks that what the user sees is about IPv6 addresses.
func (n *network) checkStatus() {
	n.t.Helper()
	status := n.status()
	if len(status.Services) != 1 || len(status.Services[0].Backends) != 1 {
		n.t.Fatalf("status: %+v", status)
	}
	service := status.Services[0]
	backend := service.Backends[0]
	eth0, err := n.backend.Interface("eth0")
	if err != nil {
		n.t.Fatal(err)
	}
	if service.Address != netip.MustParseAddrPort(vip) || backend.Name != "["+backendAddress+"]:8080" {
		n.t.Errorf("status tells of %s and %s", service.Address, backend.Name)
	}
	if backend.NextHop == nil || backend.NextHop.MAC != eth0.HardwareAddr.String() || backend.Counters.Flows != 3 {
		n.t.Errorf("status of the backend: %+v, next hop %+v; want next hop %s and 3 flows", backend, backend.NextHop, eth0.HardwareAddr)
	}
	for _, r := range status.Reasons {
		switch r.Reason {
		case "new-flow", "forwarded", "reply", "not-ip", "not-ours", "other-protocol", "other-mac":
		default:
			n.t.Errorf("%d packets of service %q ended as %s", r.Packets, r.Service, r.Reason)
		}
	}
}

// checkChecksums: Linux counts the segments of both families together.
func (n *network) checkChecksums() {
	n.t.Helper()
	for _, node := range []*lab.Node{n.client, n.backend} {
		errors, err := node.Counter("Tcp", "InCsumErrors")
		if err != nil {
			n.t.Fatal(err)
		}
		if errors > 0 {
			n.t.Errorf("%s received %d segments with a wrong checksum", node.Name(), errors)
		}
	}
}
