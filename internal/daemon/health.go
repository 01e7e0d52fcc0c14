package daemon

import (
	"github.com/tinylb/tinylb/internal/health"
	"github.com/tinylb/tinylb/internal/lb"
)

// setChecks has the backends checked that the config says. What the tables know of
// them, be it from an earlier run or from before a service was renamed, holds until
// the checks say something else; others begin as unseen.
func (d *daemon) setChecks(unseen lb.HealthState) {
	known := d.reconciler.Health(d.config.Services)
	var targets []health.Target
	for i := range d.config.Services {
		s := &d.config.Services[i]
		if s.Check == nil {
			continue
		}
		for _, b := range s.Backends {
			key := lb.CheckedBackend{Service: s.Name, Address: b.Address}
			before := known[key]
			if before == nil {
				before = &lb.Health{State: unseen}
			}
			targets = append(targets, health.Target{CheckedBackend: key, Address: s.CheckAddress(b), Check: s.Check, Before: before})
		}
	}
	d.checker.Set(targets)
}
