package forward

import (
	"bufio"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tinylb/tinylb/test/testnet"
)

// Ports of the servers that take and give what is transferred, as those of RFC
// 863 and RFC 864 do.
const (
	sinkPort   = 9
	sourcePort = 19
)

// transferWait is for a transfer that takes a second on an idle machine.
const transferWait = time.Minute

// transferred is how a transfer ended.
type transferred struct {
	sum     string // SHA-256 of what arrived
	pathMTU int    // what the sender takes for the path's MTU at the end, in bytes
	err     error
}

// halfway stops a sender in the middle until it may go on.
type halfway struct {
	reached chan struct{}
	goOn    chan struct{}
}

func newHalfway(senders int) halfway {
	return halfway{reached: make(chan struct{}, senders), goOn: make(chan struct{})}
}

// noiseServers are the backend's, which tell how downloads ended at their end.
type noiseServers struct {
	halfway
	downloads chan transferred
}

// serveNoise starts a server that takes what it is sent and says its sum, and one
// that gives the noise.
func (n *network) serveNoise(file noise) noiseServers {
	n.t.Helper()
	s := noiseServers{newHalfway(2), make(chan transferred, 1)}
	testnet.ServeTCP(n.t, n.backends[0], n.local(0, sinkPort), func(c net.Conn) {
		if sum, err := sumOf(c); err == nil {
			fmt.Fprintln(c, sum)
		}
	})
	testnet.ServeTCP(n.t, n.backends[0], n.local(0, sourcePort), func(c net.Conn) {
		_, err := io.ReadFull(c, make([]byte, 1)) // the client has read the greeting
		var mtu int
		if err == nil {
			mtu, err = s.send(c.(*net.TCPConn), file)
		}
		s.downloads <- transferred{pathMTU: mtu, err: err}
	})
	return s
}

// transferWhile transfers the noise both ways at once, and does something when
// half of each has been sent.
func (n *network) transferWhile(file noise, servers noiseServers, do func() error) (up, down transferred) {
	n.t.Helper()
	uploads, downloads := make(chan transferred, 1), make(chan transferred, 1)
	go func() { uploads <- n.upload(file, servers) }()
	go func() { downloads <- n.download(servers) }()
	for range cap(servers.reached) {
		select {
		case <-servers.reached:
		case up = <-uploads:
			n.t.Fatalf("the upload ended early: %v", up.err)
		case down = <-downloads:
			n.t.Fatalf("the download ended early: %v", down.err)
		}
	}
	n.must(do())
	close(servers.goOn)
	up, down = <-uploads, <-downloads
	for name, got := range map[string]transferred{"upload": up, "download": down} {
		if got.err != nil || got.sum != file.sum {
			n.t.Errorf("the %s has the sum %s, want %s; %v", name, got.sum, file.sum, got.err)
		}
	}
	return up, down
}

func (n *network) upload(file noise, servers noiseServers) (t transferred) {
	c, err := n.dial(sinkPort)
	if err != nil {
		return transferred{err: err}
	}
	defer c.Close()
	t.pathMTU, t.err = servers.send(c, file)
	if t.err == nil {
		t.err = c.CloseWrite()
	}
	answer, err := bufio.NewReader(c).ReadString('\n')
	t.sum, t.err = strings.TrimSpace(answer), errors.Join(t.err, err)
	return t
}

func (n *network) download(servers noiseServers) (t transferred) {
	c, err := n.dial(sourcePort)
	if err != nil {
		return transferred{err: err}
	}
	defer c.Close()
	if _, err := c.Write([]byte{'.'}); err != nil {
		return transferred{err: err}
	}
	sum, err := sumOf(c)
	if err != nil {
		return transferred{err: err}
	}
	t = <-servers.downloads
	t.sum = sum
	return t
}

// dial connects the client with a port of the VIP, and takes the greeting.
func (n *network) dial(port uint16) (*net.TCPConn, error) {
	from := netip.AddrPortFrom(n.clientAddress(), 0).String()
	c, err := testnet.Talk(n.client, from, n.at(port).String(), testnet.AnswerWait)
	if err != nil {
		return nil, err
	}
	return c.Conn, c.Conn.SetDeadline(time.Now().Add(transferWait))
}

// send sends the noise, and waits in the middle.
func (h halfway) send(c *net.TCPConn, file noise) (pathMTU int, err error) {
	f, err := os.Open(file.path)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	c.SetDeadline(time.Now().Add(transferWait))
	if _, err := io.CopyN(c, f, transferSize/2); err != nil {
		return 0, err
	}
	h.reached <- struct{}{}
	<-h.goOn
	if _, err := io.Copy(c, f); err != nil {
		return 0, err
	}
	return pathMTUOf(c)
}

// pathMTUOf asks the kernel, tcp(7).
func pathMTUOf(c *net.TCPConn) (mtu int, err error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return 0, err
	}
	var infoErr error
	err = raw.Control(func(fd uintptr) {
		var info *unix.TCPInfo
		if info, infoErr = unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO); infoErr == nil {
			mtu = int(info.Pmtu)
		}
	})
	return mtu, errors.Join(err, infoErr)
}

func sumOf(r io.Reader) (string, error) {
	sum := sha256.New()
	_, err := io.Copy(sum, r)
	return hex.EncodeToString(sum.Sum(nil)), err
}
