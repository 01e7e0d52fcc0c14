package main

import (
	"fmt"
	"os"

	"github.com/tinylb/tinylb/internal/lb"
)

// localPorts is the range from which the kernel takes ports for this host's own
// connections; zero where it cannot be read.
func localPorts() lb.PortRange {
	text, err := os.ReadFile("/proc/sys/net/ipv4/ip_local_port_range")
	if err != nil {
		return lb.PortRange{}
	}
	return parseLocalPorts(string(text))
}

// parseLocalPorts reads what the kernel writes: two numbers.
func parseLocalPorts(text string) lb.PortRange {
	var r lb.PortRange
	if n, err := fmt.Sscan(text, &r.First, &r.Last); n != 2 || err != nil {
		return lb.PortRange{}
	}
	return r
}
