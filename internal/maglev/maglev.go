// Package maglev builds the look-up tables of Maglev consistent hashing:
// Eisenbud et al., "Maglev: A Fast and Reliable Software Network Load
// Balancer", NSDI 2016, section 3.4. With equal weights the tables are the
// paper's, but for how an entry's permutation is made; weights are added by giving each entry its share of the turns.
package maglev

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"slices"
)

// ErrSize says that a table size is not a prime: an entry's permutation would
// not reach every slot.
var ErrSize = errors.New("not a prime")

// Entry is one candidate for the slots of a table.
type Entry struct {
	Key    string // identity, such as "10.0.0.2:80"; it alone decides which slots the entry prefers
	Weight uint32 // share of the slots relative to the other entries; 0 takes none
}

// largest is the last of Sizes.
const largest = 65537

// Sizes lists the table sizes that SizeFor chooses from: primes, each about
// twice the one before.
func Sizes() []uint32 {
	return []uint32{127, 251, 509, 1021, 2039, 4093, 8191, 16381, 32749, largest}
}

// SizeFor is the smallest of Sizes with 100 slots for each backend, which keeps
// equal shares within 1 % of each other; beyond 655 backends it is the largest.
func SizeFor(backends int) uint32 {
	sizes := Sizes()
	for _, size := range sizes {
		if backends <= int(size)/100 {
			return size
		}
	}
	return sizes[len(sizes)-1]
}

// IsPrime reports whether n can be the size of a table.
func IsPrime(n uint32) bool {
	if n < 2 {
		return false
	}
	for d := uint64(2); d*d <= uint64(n); d++ {
		if uint64(n)%d == 0 {
			return false
		}
	}
	return true
}

// Build fills a table of size slots with indices into entries. It returns a
// nil table if no entry has a weight, and ErrSize if size is not a prime.
//
// The table depends on keys, weights, size and seed alone: neither on the order
// of entries nor on the machine. Each entry's number of slots differs from its
// exact share by less than one, except that an entry whose share is less than
// one slot still gets one, at the cost of the heavier ones. With more entries
// than slots, the lightest (of equals, the last by key) get none.
func Build(entries []Entry, size uint32, seed uint64) ([]int32, error) {
	if !IsPrime(size) {
		return nil, fmt.Errorf("table size %d: %w", size, ErrSize)
	}
	order := usable(entries)
	if len(order) == 0 {
		return nil, nil
	}
	weights := make([]uint32, len(order))
	walks := make([]walk, len(order))
	for i, entry := range order {
		weights[i] = entries[entry].Weight
		walks[i] = newWalk(entries[entry].Key, size, seed)
	}
	table := make([]int32, size)
	var scatter []uint32
	if size < largest {
		scatter = inverses(size)
	}
	taken := make([]bool, size) // its own bytes: testing one takes fewer instructions than a bit, or an entry of the table
	line := turns(shares(weights, size))
	last := max(0, len(line)-lastTurns(size))
	for _, who := range line[:last] {
		slot := walks[who].next(taken, scatter, size)
		table[slot] = order[who]
	}
	free := freeSlots(taken, size)
	for _, who := range line[last:] {
		i := walks[who].first(free, scatter, size)
		table[free[i]] = order[who]
		free = slices.Delete(free, i, i+1)
	}
	return table, nil
}

// lastTurns is when computing the way to each free slot gets cheaper than
// walking: with so many free, walking takes size/free steps, and a step is some
// sixteen times as fast as computing a way.
func lastTurns(size uint32) int { return int(math.Sqrt(float64(size))) / 4 }

func freeSlots(taken []bool, size uint32) []uint32 {
	var free []uint32
	for slot := range size {
		if !taken[slot] {
			free = append(free, slot)
		}
	}
	return free
}

// usable lists the indices of the entries with a weight, ordered by key.
func usable(entries []Entry) []int32 {
	order := make([]int32, 0, len(entries))
	for i, e := range entries {
		if e.Weight > 0 {
			order = append(order, int32(i))
		}
	}
	slices.SortFunc(order, func(a, b int32) int {
		return cmp.Or(cmp.Compare(entries[a].Key, entries[b].Key),
			cmp.Compare(entries[a].Weight, entries[b].Weight))
	})
	return order
}

// walk is one entry's permutation of the slots: offset, offset+skip, offset+2*skip and so on, modulo
// the table's size. In smaller tables the slots are the inverses of these, each moved by the same number
// of slots: else of two entries whose skips are equal, or in a simple ratio, one follows
// the other from slot to slot, and is disturbed all along when that goes. In the largest such pairs are
// too rare, or have too few slots, to matter.
type walk struct {
	position, skip, move uint32
}

func newWalk(key string, size uint32, seed uint64) walk {
	h1 := hash(key, seed)
	h2 := mix(h1)
	return walk{
		position: uint32(h1 % uint64(size)),
		skip:     uint32(h2%uint64(size-1)) + 1,
		move:     uint32(mix(h2) % uint64(size)),
	}
}

// inverses has each number's inverse modulo a prime; that of 0 is 0. Each that is computed gives
// three more: the inverse's is the number, and those of their negatives are theirs.
func inverses(size uint32) []uint32 {
	all := make([]uint32, size)
	all[1], all[size-1] = 1, size-1
	for n := uint32(2); n <= size/2; n++ {
		if all[n] == 0 { // size/n * n + size%n is 0
			i := size - uint32(uint64(size/n)*uint64(all[size%n])%uint64(size))
			all[n], all[i], all[size-n], all[size-i] = i, n, size-i, size-n
		}
	}
	return all
}

// next takes the first slot of the walk that is still free. There must be one.
func (w *walk) next(taken []bool, scatter []uint32, size uint32) uint32 {
	at, forward, round := int64(w.position), int64(w.skip)-int64(size), int64(size)
	slot := at
	if scatter == nil {
		for taken[at] {
			at += forward
			at += at >> 63 & round
		}
		slot = at
	} else {
		move := int64(w.move) - int64(size)
		for {
			slot = int64(scatter[at]) + move
			slot += slot >> 63 & round
			if !taken[slot] {
				break
			}
			at += forward
			at += at >> 63 & round
		}
	}
	taken[slot] = true
	w.position = step(uint32(at), w.skip, size)
	return uint32(slot)
}

// first is the index of the one of the free slots that the walk reaches first.
func (w *walk) first(free, scatter []uint32, size uint32) int {
	m := uint64(size)
	inverse := power(uint64(w.skip), m-2, m) // by Fermat's little theorem, as m is a prime
	nearest, fewest := 0, m
	for i, slot := range free {
		at := slot
		if scatter != nil {
			at = scatter[step(slot, size-w.move, size)]
		}
		steps := (uint64(at) + m - uint64(w.position)) % m * inverse % m
		if steps < fewest {
			nearest, fewest = i, steps
		}
	}
	return nearest
}

// power is base^exponent modulo m, which must be below 2^32.
func power(base, exponent, m uint64) uint64 {
	result := uint64(1)
	for ; exponent > 0; exponent >>= 1 {
		if exponent&1 == 1 {
			result = result * base % m
		}
		base = base * base % m
	}
	return result
}

// step is (slot + skip) mod size. It has neither a division nor a branch, which
// no predictor could guess: both cost more than all the rest of the walk.
func step(slot, skip, size uint32) uint32 {
	next := int64(slot) + int64(skip) - int64(size)
	return uint32(next + next>>63&int64(size)) // the shift makes a mask of the sign
}

// hash is FNV-1a started from the seed and finished by mix, since
// FNV alone leaves the high bits of short keys alike.
func hash(key string, seed uint64) uint64 {
	const offsetBasis, prime = 0xcbf29ce484222325, 0x100000001b3
	h := mix(seed) ^ offsetBasis
	for i := range len(key) {
		h = (h ^ uint64(key[i])) * prime
	}
	return mix(h)
}

// mix is one step of SplitMix64: Steele et al., "Fast Splittable Pseudorandom
// Number Generators", OOPSLA 2014.
func mix(x uint64) uint64 {
	x += 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}
