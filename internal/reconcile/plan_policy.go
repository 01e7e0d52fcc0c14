package reconcile

import (
	"fmt"
	"hash/fnv"
	"time"

	"github.com/tinylb/tinylb/internal/lb"
)

// timeouts are some that a service has of its own.
type timeouts struct {
	number uint8
	values lb.Timeouts
}

// planPolicy finds out what a service asks of new flows, and which timeouts its flows have.
func (p *plan) planPolicy(c *change) error {
	c.policy = policyOf(c.config)
	if err := p.planRules(c); err != nil {
		return err
	}
	var err error
	c.timeouts, err = p.planTimeouts(c.config.Timeouts)
	return err
}

// policyOf is all of a service's policy but the number of its source rules.
func policyOf(s lb.Service) lb.ServicePolicy {
	policy := lb.ServicePolicy{
		MaxFlows: s.MaxFlows, Interval: interval(s.NewFlowsPerSecond), ClientInterval: interval(s.PerClient.NewFlowsPerSecond),
		OnlyAllowed: len(s.Allow) > 0, AffinityTimeout: s.Affinity.Timeout,
	}
	if policy.ClientInterval > 0 {
		policy.Name = hashOf("service", s.Name)
		policy.ClientV4, policy.ClientV6 = s.PerClient.PrefixV4, s.PerClient.PrefixV6
	}
	if s.Affinity.Timeout > 0 {
		policy.AffinityGroup = hashOf("service", s.Name)
		policy.AffinityV4, policy.AffinityV6 = s.Affinity.PrefixV4, s.Affinity.PrefixV6
	}
	if s.Affinity.Timeout > 0 && s.Affinity.Group != "" {
		policy.AffinityGroup = hashOf("group", s.Affinity.Group)
	}
	return policy
}

func interval(perSecond uint32) time.Duration {
	if perSecond == 0 {
		return 0
	}
	return time.Second / time.Duration(perSecond)
}

// hashOf is a name as the data plane knows it: what it has under it is found again whatever becomes
// of ids. It is never 0.
func hashOf(kind, name string) uint64 {
	h := fnv.New64a()
	h.Write([]byte(kind + "/" + name))
	return max(1, h.Sum64())
}

// planRules keeps a service's source rules, or plans new ones beside them: the policy, which has their
// number, is the switch, so that no packet meets half of them.
func (p *plan) planRules(c *change) error {
	r := p.r
	wanted := lb.SourceRules{Allow: c.config.Allow, Deny: c.config.Deny}
	old := r.actual.policies[c.service.id].SourceRules
	if wanted.Size() > 0 && old > 0 && r.actual.sourceRules[old].Equal(wanted) {
		c.policy.SourceRules = old
		return nil
	}
	p.dropRules(old)
	if wanted.Size() == 0 {
		return nil
	}
	size := wanted.Size()
	for _, policy := range r.actual.policies {
		size += r.actual.sourceRules[policy.SourceRules].Size()
	}
	for _, other := range p.changes {
		size += other.rules.Size()
	}
	if size > 2*int(r.limits.Prefixes) {
		return fmt.Errorf("%w for %d more prefixes beside those they replace: raise limits.prefixes and restart", ErrNoRoom, wanted.Size())
	}
	number, err := r.books.rules.take(1)
	c.policy.SourceRules, c.rules = number, wanted
	return err
}

func (p *plan) dropRules(number uint32) {
	if number > 0 {
		p.goneRules = append(p.goneRules, number)
		p.r.books.rules.release(stretch{number, 1})
	}
}

// planTimeouts finds the number of a service's own timeouts, or one for them.
func (p *plan) planTimeouts(values lb.Timeouts) (uint8, error) {
	books := p.r.books
	if values == (lb.Timeouts{}) {
		return 0, nil
	}
	if number, known := books.timeoutsAt[values]; known {
		return number, nil
	}
	number, err := books.timeouts.take(1)
	if err != nil {
		return 0, err
	}
	books.timeouts.release(stretch{number, 1}) // each backend holds it itself
	books.timeoutsAt[values] = uint8(number)
	p.timeouts = append(p.timeouts, timeouts{uint8(number), values})
	return uint8(number), nil
}

// planAffinity finds, for the addresses of a service's backends, the first that takes new flows.
func (p *plan) planAffinity(c *change) {
	c.affinity = map[lb.BackendKey]uint32{}
	for _, b := range c.backends {
		key := lb.BackendKey{Service: c.service.id, Address: b.entry.Address.Addr()}
		if _, known := c.affinity[key]; !known && b.entry.TakesFlows && c.policy.AffinityGroup != 0 {
			c.affinity[key] = b.id
		}
	}
	before := c.service.affinity
	c.service.affinity = nil
	for key := range c.affinity {
		c.service.affinity = append(c.service.affinity, key)
	}
	for _, key := range before {
		if _, stays := c.affinity[key]; !stays {
			p.goneAffinity = append(p.goneAffinity, key)
		}
	}
}

// writeTimeouts writes those that backends are about to have.
func (r *Reconciler) writeTimeouts(p *plan) error {
	for _, t := range p.timeouts {
		if err := put(r.actual.timeouts, t.number, t.values, same, r.tables.PutTimeouts); err != nil {
			return err
		}
	}
	return nil
}

// writePolicy makes new flows to a service comply with what it asks of them.
func (r *Reconciler) writePolicy(c *change) error {
	if c.rules.Size() > 0 {
		number := c.policy.SourceRules
		r.actual.sourceRules[number] = c.rules // so that it is known what to remove if that fails
		if err := r.tables.PutSourceRules(number, c.rules); err != nil {
			return err
		}
	}
	for key, id := range c.affinity {
		if err := put(r.actual.affinity, key, id, same, r.tables.PutAffinityBackend); err != nil {
			return err
		}
	}
	return r.setPolicy(c.service.id, c.policy)
}

// setPolicy writes a policy if it is to change.
func (r *Reconciler) setPolicy(id uint32, policy lb.ServicePolicy) error {
	if r.actual.policies[id] == policy {
		return nil
	}
	if err := r.tables.PutPolicy(id, policy); err != nil {
		return err
	}
	r.actual.policies[id] = policy
	if policy == (lb.ServicePolicy{}) {
		delete(r.actual.policies, id)
	}
	return nil
}

// clearRules removes source rules that no policy has.
func (r *Reconciler) clearRules(numbers []uint32) error {
	for _, number := range numbers {
		if err := r.tables.DeleteSourceRules(number, r.actual.sourceRules[number]); err != nil {
			return err
		}
		delete(r.actual.sourceRules, number)
	}
	return nil
}

// clearStrayRules removes what is left of rules whose writing has failed, or whose removal.
func (r *Reconciler) clearStrayRules() error {
	var stray []uint32
	used := map[uint32]bool{}
	for _, policy := range r.actual.policies {
		used[policy.SourceRules] = true
	}
	for number := range r.actual.sourceRules {
		if !used[number] {
			stray = append(stray, number)
			r.books.rules.release(stretch{number, 1})
		}
	}
	r.books.rules.settle(func(stretch) {})
	return r.clearRules(stray)
}
