package packets

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/tinylb/tinylb/internal/lb"
	"github.com/tinylb/tinylb/internal/packet"
	"github.com/tinylb/tinylb/test/need"
	"github.com/tinylb/tinylb/test/testnet"
)

// objections is what tshark must find in no packet that leaves. Checksums of
// what ICMP quotes cannot be judged: the rest of the packet is missing.
const objections = `_ws.malformed || ip.checksum.status == "Bad" || icmp.checksum.status == "Bad" || icmpv6.checksum.status == "Bad" ||
	((tcp.checksum.status == "Bad" || udp.checksum.status == "Bad") && !icmp && !icmpv6)`

// Wireshark knows everything that leaves but GUE, whose header is 4 bytes of no interest here.
const gueDissector = `
local gue = Proto("gue", "Generic UDP Encapsulation")
local protocol = ProtoField.uint8("gue.protocol", "Protocol")
gue.fields = { protocol }
function gue.dissector(buffer, pinfo, tree)
	tree:add(gue, buffer(0, 4)):add(protocol, buffer(1, 1))
	local inner = buffer(1, 1):uint() == 41 and "ipv6" or "ip"
	Dissector.get(inner):call(buffer(4):tvb(), pinfo, tree)
end
DissectorTable.get("udp.port"):add(6080, gue)
`

// What `tinylb simulate -w` writes is read by somebody else: no packet is
// malformed, no checksum bad.
func TestTsharkObjectsToNothing(t *testing.T) {
	need.Root(t)
	tshark := need.Tool(t, "tshark")
	dir := t.TempDir()
	if err := testnet.Build(dir); err != nil {
		t.Fatal(err)
	}
	dissector := filepath.Join(dir, "gue.lua")
	write(t, dissector, []byte(gueDissector))
	for _, mix := range []struct {
		name          string
		otherFamily   bool
		least         int // frames of the corpus that leave
		withoutDNAT   bool
		changeBackend func(*lb.Config)
	}{
		{name: "same family", least: 25, changeBackend: func(*lb.Config) {}},
		{name: "other family", least: 20, otherFamily: true, withoutDNAT: true, changeBackend: backendOfOtherFamily},
	} {
		for _, forward := range lb.Forwards() {
			if mix.withoutDNAT && forward == lb.ForwardDNAT {
				continue // within a family only
			}
			t.Run(mix.name+" "+string(forward), func(t *testing.T) {
				base := filepath.Join(dir, strings.ReplaceAll(t.Name(), "/", "-"))
				write(t, base+".yaml", configFor(forward, mix.otherFamily))
				capture(t, base+".pcap", corpus(t, newStage(t, forward, mix.changeBackend)))
				out := simulated(t, filepath.Join(dir, "tinylb"), base)
				if n := len(out.Records); n < mix.least {
					t.Errorf("%d frames left, want at least %d", n, mix.least)
				}
				complaints := tsharked(t, tshark, dissector, base+".out.pcap", objections)
				if complaints != "" {
					t.Errorf("tshark objects to:\n%s", complaints)
				}
				if forward == lb.ForwardGUE && tsharked(t, tshark, dissector, base+".out.pcap", "gue && tcp") == "" {
					t.Error("tshark saw no TCP in GUE: it has not looked inside")
				}
			})
		}
	}
}

// corpus is every kind of packet, as it comes in, but a source-routed one: its
// checksum is about another destination than its header names.
func corpus(t *testing.T, s *stage) packet.File {
	t.Helper()
	for name, k := range kinds() {
		for _, six := range []bool{false, true} {
			if k.only.is(six) && k.change == nil && name != "IPv4 source route" {
				scene := s.scene(t, six)
				scene.run(k.last(scene))
			}
		}
	}
	return packet.File{Records: s.given}
}

func write(t *testing.T, path string, content []byte) {
	t.Helper()
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
}

func capture(t *testing.T, path string, frames packet.File) {
	t.Helper()
	var b bytes.Buffer
	if err := packet.WriteCapture(&b, frames); err != nil {
		t.Fatal(err)
	}
	write(t, path, b.Bytes())
}

// simulated runs a capture through the program, and reads what it wrote.
func simulated(t *testing.T, tinylb, base string) packet.File {
	t.Helper()
	out, err := exec.Command(tinylb, "simulate", "-c", base+".yaml", base+".pcap", "-w", base+".out.pcap", "-o", "json").CombinedOutput()
	if err != nil {
		t.Fatalf("tinylb simulate: %v\n%s", err, out)
	}
	f, err := os.Open(base + ".out.pcap")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	left, err := packet.ReadCapture(f)
	if err != nil {
		t.Fatal(err)
	}
	sent := 0
	for line := range bytes.Lines(out) {
		var step struct{ Verdict string }
		if err := json.Unmarshal(line, &step); err != nil {
			t.Fatalf("%v: %s", err, line)
		}
		if step.Verdict == "TX" || step.Verdict == "REDIRECT" {
			sent++
		}
	}
	if sent > len(left.Records) { // a packet may leave in pieces
		t.Errorf("%d packets were sent, %d frames are in the capture", sent, len(left.Records))
	}
	return left
}

func tsharked(t *testing.T, tshark, dissector, path, filter string) string {
	t.Helper()
	cmd := exec.Command(tshark, "-X", "lua_script:"+dissector, "-r", path, "-V",
		"-o", "ip.check_checksum:TRUE", "-o", "tcp.check_checksum:TRUE", "-o", "udp.check_checksum:TRUE", "-Y", filter)
	var complaints bytes.Buffer
	cmd.Stderr = &complaints
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("tshark: %v\n%s", err, complaints.Bytes())
	}
	return string(out)
}
