package odd

import (
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// dissectors: Wireshark knows all that leaves but GUE, whose header is 4 bytes of no
// interest here; and what it would take for other protocols, by their ports, is data.
const dissectors = `
local gue = Proto("gue", "Generic UDP Encapsulation")
function gue.dissector(buffer, pinfo, tree)
	local inner = buffer(1, 1):uint() == 41 and "ipv6" or "ip"
	Dissector.get(inner):call(buffer(4):tvb(), pinfo, tree)
end
DissectorTable.get("udp.port"):add(6080, gue)
for _, ports in pairs({ "udp.port", "tcp.port" }) do
	DissectorTable.get(ports):add("0-6079", Dissector.get("data"))
end
`

// judgements are the fields that tshark prints of each frame. Several values of one
// are separated by commas, as where a frame has headers within headers.
var judgements = []string{
	"frame.time_epoch", "_ws.malformed", "ip.checksum.status", "tcp.checksum.status", "udp.checksum.status",
	"icmp.checksum.status", "icmpv6.checksum.status", "udp.payload", "tcp.payload",
}

// judged is what tshark says of a frame.
type judged map[string]string

// checkFrames has tshark look for what is wrong with the frames that leave, if it
// was not wrong before, and for the datagrams that they make together.
func (b *bench) checkFrames(frames []given) {
	b.t.Helper()
	by, before := map[int64]given{}, map[int64][]string{}
	for _, f := range frames {
		by[f.At] = f
	}
	for _, j := range b.judge(".pcap") {
		before[j.at(b.t)] = j.objections()
	}
	seen := map[string]bool{}
	for _, j := range b.judge(".out.pcap") {
		f, ok := by[j.at(b.t)]
		if !ok {
			b.t.Fatalf("a frame leaves at a time when none came: %v", j)
		}
		for _, objection := range j.objections() {
			if !f.Bad && !slices.Contains(before[f.At], objection) {
				b.t.Errorf("%s, IPv%s: %q: tshark finds %s in what leaves", f.Case, f.Families, f.Frame, objection)
			}
		}
		for _, payload := range strings.Split(j["udp.payload"]+","+j["tcp.payload"], ",") {
			seen[payload] = true
		}
	}
	for _, f := range frames {
		if f.Sent != "" && b.arrives(f) && !seen[f.Sent] {
			b.t.Errorf("%s, IPv%s: tshark does not find the datagram in what leaves", f.Case, f.Families)
		}
	}
}

// judge has tshark read a capture.
func (b *bench) judge(extension string) (all []judged) {
	b.t.Helper()
	script := b.path(".lua")
	if err := os.WriteFile(script, []byte(dissectors), 0o600); err != nil {
		b.t.Fatal(err)
	}
	args := []string{"-X", "lua_script:" + script, "-r", b.path(extension), "-T", "fields",
		"-o", "ip.check_checksum:TRUE", "-o", "tcp.check_checksum:TRUE", "-o", "udp.check_checksum:TRUE"}
	for _, field := range judgements {
		args = append(args, "-e", field)
	}
	for line := range strings.Lines(string(b.run("tshark", args...))) {
		j := judged{}
		for i, value := range strings.Split(strings.TrimRight(line, "\n"), "\t") {
			j[judgements[i]] = value
		}
		all = append(all, j)
	}
	return all
}

// at is the frame's time, in microseconds.
func (j judged) at(t *testing.T) int64 {
	t.Helper()
	seconds, fraction, _ := strings.Cut(j["frame.time_epoch"], ".")
	at, err := strconv.ParseInt(seconds+(fraction + "000000")[:6], 10, 64)
	if err != nil {
		t.Fatalf("tshark says that a frame came at %q", j["frame.time_epoch"])
	}
	return at
}

// objections are what tshark finds wrong. A wrong TCP checksum makes GUE's over IPv6
// wrong, which is derived from it.
func (j judged) objections() (all []string) {
	if j["_ws.malformed"] != "" {
		all = append(all, "a malformed packet")
	}
	const bad = "0"
	names := map[string]string{"ip": "IPv4", "tcp": "TCP or UDP", "udp": "TCP or UDP", "icmp": "ICMP", "icmpv6": "ICMP"}
	for _, field := range judgements {
		layer, isStatus := strings.CutSuffix(field, ".checksum.status")
		if isStatus && slices.Contains(strings.Split(j[field], ","), bad) {
			all = append(all, "a bad checksum of "+names[layer])
		}
	}
	return all
}
