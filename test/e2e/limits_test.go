package e2e

import (
	"fmt"
	"strings"
	"testing"

	"github.com/tinylb/tinylb/internal/lb"
)

// A config that needed large maps becomes small, and large again: its connections stay
// through restarts, because the maps do.
func TestConnectionsSurviveAConfigThatShrinks(t *testing.T) {
	t.Parallel()
	n := newNetwork(t, lb.ModeNative)
	n.echoes(7)
	services := []string{service("echo", "tcp", echoVIP, "{name: backend-a, address: "+addressA+":7}")}
	small := n.config(services...)
	for i := range 5000 { // more than there is room for by default
		vip := fmt.Sprintf("10.0.%d.%d:80", i/250, i%250+1)
		services = append(services, service(fmt.Sprint("s", i), "tcp", vip, "{address: "+addressA+"}"))
	}
	large := n.config(services...)
	d := n.Run(large)
	existing := n.talk(n.client, clientAddress+":0", echoVIP)
	existing.MustExchange(t, 10_000)
	for _, config := range []string{small, large} {
		d.Terminate()
		d = n.Run(config)
		if strings.Contains(d.Log.String(), "other limits") {
			t.Errorf("the maps were made anew:\n%s", d.Log)
		}
		existing.MustExchange(t, 10_000)
	}
}
