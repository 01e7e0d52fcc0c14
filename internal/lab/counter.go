package lab

import (
	"fmt"
	"os"
	"strconv"
	"strings"
)

// Counter reads one of the namespace's protocol counters, named as nstat(8)
// does but in two parts: group "Tcp", "Udp", "Ip", "Icmp" (RFC 1213 and later),
// "TcpExt", "IpExt" (Linux), or "Udp6", "Ip6", "Icmp6", and the counter's name,
// for example "InCsumErrors". Tcp counts the segments of both families.
func (n *Node) Counter(group, name string) (uint64, error) {
	var value uint64
	err := n.Do(func() error {
		for _, file := range []string{"snmp", "netstat", "snmp6"} {
			// thread-self: /proc/net is of the process's first thread.
			content, err := os.ReadFile("/proc/thread-self/net/" + file)
			if err != nil {
				return err
			}
			text, found := findCounter(string(content), group, name)
			if !found {
				continue
			}
			// RFC 1213 lets Tcp MaxConn be -1.
			signed, err := strconv.ParseInt(text, 10, 64)
			value = uint64(signed)
			return err
		}
		return fmt.Errorf("this kernel has no such counter")
	})
	if err != nil {
		return 0, fmt.Errorf("reading counter %s %s of node %s: %w", group, name, n.name, err)
	}
	return value, nil
}

// findCounter looks in pairs of lines, "Group: names" over "Group: values", and
// in lines of IPv6's kind, "GroupName value".
func findCounter(content, group, name string) (string, bool) {
	var names []string
	for line := range strings.Lines(content) {
		fields := strings.Fields(line)
		if len(fields) == 2 && fields[0] == group+name {
			return fields[1], true
		}
		if len(fields) == 0 || fields[0] != group+":" {
			continue
		}
		if names == nil {
			names = fields
			continue
		}
		for i := 1; i < min(len(names), len(fields)); i++ {
			if names[i] == name {
				return fields[i], true
			}
		}
	}
	return "", false
}
