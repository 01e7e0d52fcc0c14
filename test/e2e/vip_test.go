package e2e

import (
	"fmt"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"

	"github.com/tinylb/tinylb/internal/lb"
	"github.com/tinylb/tinylb/test/testnet"
)

const extraAddress = "192.17.0.10"

func TestListenerOfTheBalancersOwnOnAnotherPortOfTheVIP(t *testing.T) {
	t.Parallel()
	inBothModes(t, func(t *testing.T, mode lb.Mode) {
		n := newNetwork(t, mode)
		n.webs()
		n.Run(n.config(service("web", "tcp", webVIP)))
		n.web(n.balancer, balancerAddress+":8080")
		// the port of the service, but the other protocol
		testnet.EchoUDP(n.t, n.balancer, balancerAddress+":53")

		if name := n.whoAnswers(n.client, balancerAddress+":8080"); name != "lb" {
			t.Errorf("port 8080 was answered by %q", name)
		}
		udp := testnet.ListenUDP(n.t, n.client, clientAddress+":0")
		if name := n.askUDP(udp, 1000); name != "lb" {
			t.Errorf("UDP was answered by %q", name)
		}
		if name := n.whoAnswers(n.client, webVIP); name != "backend-a" && name != "backend-b" {
			t.Errorf("the service was answered by %q", name)
		}
	})
}

func TestServiceOfOneProtocolLeavesTheOtherToTheKernel(t *testing.T) {
	t.Parallel()
	inBothModes(t, func(t *testing.T, mode lb.Mode) {
		n := newNetwork(t, mode)
		n.webs()
		n.Run(n.config(service("dns", "udp", webVIP)))
		n.web(n.balancer, webVIP)
		if name := n.whoAnswers(n.client, webVIP); name != "lb" {
			t.Errorf("TCP on the port of a UDP service was answered by %q", name)
		}
	})
}

func TestBalancersOwnConnectionsToABackend(t *testing.T) {
	t.Parallel()
	inBothModes(t, func(t *testing.T, mode lb.Mode) {
		n := newNetwork(t, mode)
		n.webs()
		n.Run(n.config(service("web", "tcp", webVIP)))
		answers := n.askOften(n.balancer, addressA+":80", 200)
		if answers["backend-a"] != 200 {
			t.Errorf("%v answered, want backend-a 200 times", answers)
		}
	})
}

func TestVIPAnswersPing(t *testing.T) {
	t.Parallel()
	inBothModes(t, func(t *testing.T, mode lb.Mode) {
		n := newNetwork(t, mode)
		n.webs()
		n.Run(n.config(service("web", "tcp", webVIP)))
		for sequence := range uint16(3) {
			if err := n.ping(balancerAddress, sequence); err != nil {
				t.Error(err)
			}
		}
	})
}

// ping sends an ICMP echo request (RFC 792) and waits for the reply.
func (n *network) ping(address string, sequence uint16) error {
	c, err := n.client.ListenPacket("ip4:icmp", clientAddress)
	if err != nil {
		return err
	}
	defer c.Close()
	request := gopacket.NewSerializeBuffer()
	err = gopacket.SerializeLayers(request, gopacket.SerializeOptions{ComputeChecksums: true},
		&layers.ICMPv4{TypeCode: layers.CreateICMPv4TypeCode(layers.ICMPv4TypeEchoRequest, 0), Id: 7, Seq: sequence},
		gopacket.Payload("are you there?"))
	if err != nil {
		return err
	}
	to := net.IPAddr{IP: netip.MustParseAddr(address).AsSlice()}
	if _, err := c.WriteTo(request.Bytes(), &to); err != nil {
		return err
	}
	c.SetReadDeadline(time.Now().Add(testnet.AnswerWait))
	buffer := make([]byte, 1500)
	for {
		size, from, err := c.ReadFrom(buffer)
		if err != nil {
			return fmt.Errorf("no answer to ping %d: %w", sequence, err)
		}
		var reply layers.ICMPv4
		if err := reply.DecodeFromBytes(buffer[:size], gopacket.NilDecodeFeedback); err != nil {
			return err
		}
		if from.String() == address && reply.TypeCode.Type() == layers.ICMPv4TypeEchoReply && reply.Seq == sequence {
			return nil
		}
	}
}

func TestVIPIsAnExtraAddressOfTheBalancer(t *testing.T) {
	t.Parallel()
	inBothModes(t, func(t *testing.T, mode lb.Mode) {
		n := newNetwork(t, mode)
		n.webs()
		if err := n.balancer.AddAddress("eth0", prefixes(extraAddress)...); err != nil {
			t.Fatal(err)
		}
		n.Run(n.config(service("web", "tcp", extraAddress+":80")))
		n.wantBoth(n.askOften(n.client, extraAddress+":80", 200))
	})
}

func TestServiceOnSeveralVIPsWithBackendsOnOtherPorts(t *testing.T) {
	t.Parallel()
	inBothModes(t, func(t *testing.T, mode lb.Mode) {
		n := newNetwork(t, mode)
		n.web(n.backendA, addressA+":8080")
		n.web(n.backendB, addressB+":9090")
		if err := n.balancer.AddAddress("eth0", prefixes(extraAddress)...); err != nil {
			t.Fatal(err)
		}
		backends := []string{
			"{name: backend-a, address: " + addressA + ":8080}",
			"{name: backend-b, address: " + addressB + ":9090}",
		}
		vips := []string{webVIP, balancerAddress + ":81", extraAddress + ":80"}
		var services []string
		for i, vip := range vips {
			services = append(services, service(fmt.Sprint("web-", i), "tcp", vip, backends...))
		}
		n.Run(n.config(services...))
		for _, vip := range vips {
			n.wantBoth(n.askOften(n.client, vip, 200))
		}
	})
}
