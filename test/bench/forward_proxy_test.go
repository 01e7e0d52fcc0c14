package bench

import (
	"context"
	"fmt"
	"net"
	"path/filepath"
	"testing"

	"github.com/tinylb/tinylb/test/need"
	"github.com/tinylb/tinylb/test/testnet"
)

// haproxy and nginx's stream module take connections and open others to the backend.
const (
	haproxyConfig = `
global
	maxconn 4096
defaults
	mode tcp
	timeout connect 5s
	timeout client 1m
	timeout server 1m
listen web
	bind %[1]s:%[3]d
	server backend %[2]s:%[3]d
listen iperf
	bind %[1]s:%[4]d
	server backend %[2]s:%[4]d
`
	streamConfig = `
load_module %[5]s;
daemon off;
user root;
worker_processes auto;
pid %[6]s;
events { worker_connections 4096; }
stream {
	server { listen %[1]s:%[3]d backlog=4096; proxy_pass %[2]s:%[3]d; }
	server { listen %[1]s:%[4]d backlog=4096; proxy_pass %[2]s:%[4]d; }
}
`
)

func haproxy(s *site) {
	config := filepath.Join(s.t.TempDir(), "haproxy.cfg")
	testnet.WriteFile(s.t, config, fmt.Sprintf(haproxyConfig, siteVIP, siteBackend, webPort, iperfPort))
	s.proxy(need.Tool(s.t, "haproxy"), "-f", config)
}

func nginxStream(s *site) {
	dir := s.t.TempDir()
	config := filepath.Join(dir, "nginx.conf")
	module := need.NginxModule(s.t, "ngx_stream_module")
	testnet.WriteFile(s.t, config, fmt.Sprintf(streamConfig, siteVIP, siteBackend, webPort, iperfPort, module, filepath.Join(dir, "pid")))
	s.proxy(need.Tool(s.t, "nginx"), "-e", "stderr", "-c", config)
}

// proxy starts a program that lets the client talk to the backend's web server.
func (s *site) proxy(program string, args ...string) {
	s.t.Helper()
	log := &testnet.Log{}
	command := s.router.Command(context.Background(), program, args...)
	command.Stderr = log
	s.must(command.Start())
	go command.Wait()
	testnet.Eventually(s.t, testnet.DaemonWait, func() error {
		c, err := s.router.DialContext(s.t.Context(), "tcp", net.JoinHostPort(siteVIP, fmt.Sprint(webPort)))
		if err != nil {
			return fmt.Errorf("%s: %w\n%s", program, err, log)
		}
		return c.Close()
	})
}

// needTCPTools ends the benchmark unless all that it runs is there.
func needTCPTools(t testing.TB) {
	t.Helper()
	for _, tool := range []string{"wrk", "iperf3", "nginx", "haproxy", "nft"} {
		need.Tool(t, tool)
	}
	need.NginxModule(t, "ngx_stream_module")
}
