package imports

import (
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

func TestImportRules(t *testing.T) {
	graph := loadGraph(t)
	if len(graph) < 2 {
		t.Fatalf("go list found %d packages", len(graph))
	}
	for _, violation := range Violations(graph, Inward(), Outward()) {
		t.Error(violation)
	}
}

// loadGraph asks the go command for every package of the module.
func loadGraph(t *testing.T) Graph {
	t.Helper()
	out, err := exec.Command("go", "list", "-e", "-json=ImportPath,Imports,Module", "../../...").Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	graph := Graph{}
	for decoder := json.NewDecoder(strings.NewReader(string(out))); ; {
		var pkg struct {
			ImportPath string
			Imports    []string
			Module     struct{ Path string }
		}
		if err := decoder.Decode(&pkg); errors.Is(err, io.EOF) {
			return graph
		} else if err != nil {
			t.Fatalf("reading what go list says: %v", err)
		}
		module := pkg.Module.Path + "/"
		imported := make([]string, len(pkg.Imports))
		for i, path := range pkg.Imports {
			imported[i] = strings.TrimPrefix(path, module)
		}
		graph[strings.TrimPrefix(pkg.ImportPath, module)] = imported
	}
}

func TestViolations(t *testing.T) {
	for name, tc := range map[string]struct {
		pkg, imports string
		reason       string // part of the message; "" where the import is allowed
	}{
		"lb may use the standard library":  {pkg: "internal/lb", imports: "net/netip"},
		"lb imports one of ours":           {pkg: "internal/lb", imports: "internal/packet", reason: "vocabulary"},
		"packet may import lb":             {pkg: "internal/packet", imports: "internal/lb"},
		"packet may use gopacket":          {pkg: "internal/packet", imports: "github.com/gopacket/gopacket"},
		"packet imports config":            {pkg: "internal/packet", imports: "internal/config", reason: "packets are read"},
		"config may import maglev":         {pkg: "internal/config", imports: "internal/maglev"},
		"config imports nexthop":           {pkg: "internal/config", imports: "internal/nexthop", reason: "without a kernel"},
		"a sibling with a longer name":     {pkg: "internal/lbx", imports: "internal/config"},
		"a package below its own":          {pkg: "internal/config", imports: "internal/config/yaml"},
		"a package below is bound too":     {pkg: "internal/model/tcp", imports: "internal/datapath", reason: "RFCs"},
		"model may import packet":          {pkg: "internal/model", imports: "internal/packet"},
		"datapath imports maglev":          {pkg: "internal/datapath", imports: "internal/maglev", reason: "decides nothing"},
		"datapath may import ebpf":         {pkg: "internal/datapath", imports: "github.com/cilium/ebpf/link"},
		"daemon imports ebpf":              {pkg: "internal/daemon", imports: "github.com/cilium/ebpf", reason: "talks BPF"},
		"gobgp outside announce":           {pkg: "internal/daemon", imports: "github.com/osrg/gobgp/v4/pkg/server", reason: "speaks BGP"},
		"lab may import netlink":           {pkg: "internal/lab", imports: "github.com/vishvananda/netlink"},
		"cmd imports netlink":              {pkg: "cmd/tinylb", imports: "github.com/vishvananda/netlink", reason: "host's network"},
		"cmd imports reconcile":            {pkg: "cmd/tinylb", imports: "internal/reconcile", reason: "one goroutine"},
		"cmd may import daemon":            {pkg: "cmd/tinylb", imports: "internal/daemon"},
		"datapath imports daemon":          {pkg: "internal/datapath", imports: "internal/daemon", reason: "circle"},
		"reconcile imports datapath":       {pkg: "internal/reconcile", imports: "internal/datapath", reason: "interface"},
		"the product imports test support": {pkg: "internal/lab", imports: "test/need", reason: "no place"},
		"the product imports a helper":     {pkg: "internal/demo", imports: "internal/lab/labtest", reason: "no place"},
		"a helper may import test support": {pkg: "internal/lab/labtest", imports: "test/need"},
		"the standard library's testing":   {pkg: "internal/lab", imports: "net/http/httptest"},
		"the product reads benchmarks":     {pkg: "internal/daemon", imports: "golang.org/x/perf/benchfmt", reason: "measures nothing"},
		"the report reads benchmarks":      {pkg: "test/bench/report", imports: "golang.org/x/perf/benchfmt"},
		"test support may import anything": {pkg: "test/e2e", imports: "github.com/cilium/ebpf"},
	} {
		t.Run(name, func(t *testing.T) {
			got := Violations(Graph{tc.pkg: {tc.imports}}, Inward(), Outward())
			if tc.reason == "" {
				if len(got) != 0 {
					t.Errorf("allowed, but: %q", got)
				}
				return
			}
			named := func(v string) bool {
				return strings.HasPrefix(v, tc.pkg+" imports "+tc.imports+": ") && strings.Contains(v, tc.reason)
			}
			if !slices.ContainsFunc(got, named) {
				t.Errorf("got %q, want one that names both packages and says %q", got, tc.reason)
			}
		})
	}
}

func TestViolationsSorted(t *testing.T) {
	graph := Graph{
		"internal/packet": {"internal/config"},
		"internal/lb":     {"internal/config", "internal/daemon"},
		"cmd/tinylb":      {"internal/reconcile"},
	}
	got := Violations(graph, Inward(), Outward())
	if len(got) != 5 || !slices.IsSorted(got) {
		t.Errorf("want 5 sorted violations (lb's of daemon breaks two rules), got %d: %q", len(got), got)
	}
}
