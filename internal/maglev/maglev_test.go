package maglev

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"math/big"
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"
)

const seed = 42

func equal(n int) []Entry {
	entries := make([]Entry, n)
	for i := range entries {
		entries[i] = Entry{Key: fmt.Sprintf("10.%d.%d.2:80", i/256, i%256), Weight: 1}
	}
	return entries
}

func weighted(weights ...uint32) []Entry {
	entries := equal(len(weights))
	for i, w := range weights {
		entries[i].Weight = w
	}
	return entries
}

func build(t testing.TB, entries []Entry, size uint32) []int32 {
	t.Helper()
	table, err := Build(entries, size, seed)
	if err != nil {
		t.Fatal(err)
	}
	return table
}

func slots(table []int32, entries int) []int {
	count := make([]int, entries)
	for _, e := range table {
		count[e]++
	}
	return count
}

// keys makes tables comparable whose entries have other indices.
func keys(table []int32, entries []Entry) []string {
	result := make([]string, len(table))
	for i, e := range table {
		result[i] = entries[e].Key
	}
	return result
}

func TestSizes(t *testing.T) {
	sizes := Sizes()
	if !slices.IsSorted(sizes) {
		t.Errorf("%v is not sorted", sizes)
	}
	for _, size := range sizes {
		if !IsPrime(size) {
			t.Errorf("%d is not a prime", size)
		}
	}
	for _, c := range []struct {
		backends int
		want     uint32
	}{
		{0, 127}, {1, 127}, {2, 251}, {3, 509}, {10, 1021}, {11, 2039}, {20, 2039},
		{100, 16381}, {655, 65537}, {656, 65537}, {10000, 65537}, {math.MaxInt, 65537},
	} {
		if got := SizeFor(c.backends); got != c.want {
			t.Errorf("SizeFor(%d) = %d, want %d", c.backends, got, c.want)
		}
	}
}

func TestSizeMustBePrime(t *testing.T) {
	for _, size := range []uint32{0, 1, 4, 9, 1000, 65536, 65521 * 3, math.MaxUint32} {
		if table, err := Build(equal(3), size, seed); !errors.Is(err, ErrSize) || table != nil {
			t.Errorf("size %d: got a table of %d and error %v, want ErrSize", size, len(table), err)
		}
	}
	for _, size := range []uint32{2, 3, 5, 7, 251} {
		build(t, equal(3), size)
	}
}

func TestNoUsableEntry(t *testing.T) {
	for _, entries := range [][]Entry{nil, {}, weighted(0), weighted(0, 0)} {
		if table := build(t, entries, 251); table != nil {
			t.Errorf("%v: got a table, want none", entries)
		}
	}
}

// The share of each entry is its exact share rounded up or down.
func TestShares(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	randomWeights := make([]uint32, 500)
	for i := range randomWeights {
		randomWeights[i] = 50 + random.Uint32N(100)
	}
	for _, c := range []struct {
		name    string
		entries []Entry
		size    uint32
	}{
		{"one", equal(1), 127},
		{"two equal", equal(2), 251},
		{"ten equal", equal(10), 65537},
		{"thousand equal", equal(1000), 65537},
		{"ten thousand equal", equal(10000), 65537},
		{"3:1", weighted(3, 1), 251},
		{"1:2:3", weighted(1, 2, 3), 509},
		{"one without weight", weighted(1, 0, 1), 509},
		{"one heavy", weighted(100, 1, 1, 1, 1), 509},
		{"near the largest weight", weighted(math.MaxUint32, math.MaxUint32-1, math.MaxUint32/2), 65537},
		{"random weights", weighted(randomWeights...), 65537},
		{"as many entries as slots", equal(13), 13},
	} {
		t.Run(c.name, func(t *testing.T) {
			sum := 0.0
			for _, e := range c.entries {
				sum += float64(e.Weight)
			}
			for i, got := range slots(build(t, c.entries, c.size), len(c.entries)) {
				want := float64(c.size) * float64(c.entries[i].Weight) / sum
				if math.Abs(float64(got)-want) >= 1 {
					t.Errorf("entry %d of weight %d has %d slots, want %.2f", i, c.entries[i].Weight, got, want)
				}
			}
		})
	}
}

// Whoever has a weight gets traffic, however small the table.
func TestLightEntriesGetOneSlot(t *testing.T) {
	got := slots(build(t, weighted(1, 1_000_000, 1, 1_000_000), 251), 4)
	slices.Sort(got)
	if want := []int{1, 1, 124, 125}; !slices.Equal(got, want) {
		t.Errorf("slots are %v, want %v", got, want)
	}
}

func TestMoreEntriesThanSlots(t *testing.T) {
	got := slots(build(t, weighted(1, 5, 1, 5, 1, 5, 1), 5), 7)
	if want := []int{1, 1, 1, 1, 0, 1, 0}; !slices.Equal(got, want) {
		t.Errorf("slots are %v, want %v", got, want)
	}
}

func TestOrderDoesNotMatter(t *testing.T) {
	entries := weighted(1, 2, 3, 4, 5, 1, 1, 1, 0, 7, 7, 7)
	want := keys(build(t, entries, 2039), entries)
	random := rand.New(rand.NewPCG(3, 4))
	for range 20 {
		random.Shuffle(len(entries), func(i, j int) { entries[i], entries[j] = entries[j], entries[i] })
		if got := keys(build(t, entries, 2039), entries); !slices.Equal(got, want) {
			t.Fatalf("another table for the order %v", entries)
		}
	}
}

func TestSeedMatters(t *testing.T) {
	a, errA := Build(equal(10), 1021, 1)
	b, errB := Build(equal(10), 1021, 2)
	if errA != nil || errB != nil {
		t.Fatal(errA, errB)
	}
	if same := len(a) - differences(keys(a, equal(10)), keys(b, equal(10)), ""); same > 200 {
		t.Errorf("%d of %d slots are the same under another seed, want about a tenth", same, len(a))
	}
}

// These tables must never change: a new release that computed others would
// move the flows of a running balancer.
func TestGolden(t *testing.T) {
	for _, c := range []struct {
		entries []Entry
		seed    uint64
		want    []int32
	}{
		{equal(3), 0, []int32{2, 1, 1, 0, 1, 2, 1, 2, 0, 0, 0, 0, 2}},
		{equal(3), 42, []int32{1, 1, 1, 0, 2, 0, 2, 2, 1, 0, 2, 0, 0}},
		{weighted(1, 2, 4), 42, []int32{1, 1, 2, 2, 2, 0, 2, 2, 1, 1, 2, 0, 2}},
	} {
		got, err := Build(c.entries, 13, c.seed)
		if err != nil || !slices.Equal(got, c.want) {
			t.Errorf("%v, seed %d: got %v, %v, want %v", c.entries, c.seed, got, err, c.want)
		}
	}
}

func inverse(n, m uint64) uint64 {
	if n == 0 {
		return 0
	}
	return new(big.Int).ModInverse(new(big.Int).SetUint64(n), new(big.Int).SetUint64(m)).Uint64()
}

// paperTable follows the pseudocode of the paper's section 3.4 line by line; in smaller tables with other permutations.
func paperTable(names []string, m uint64) []int32 {
	permutation := make([][]uint64, len(names))
	for i, name := range names {
		h1 := hash(name, seed)
		h2 := mix(h1)
		offset, skip, move := h1%m, h2%(m-1)+1, mix(h2)%m
		for j := range m {
			at := (offset + j*skip) % m
			if m < largest {
				at = (inverse(at, m) + move) % m
			}
			permutation[i] = append(permutation[i], at)
		}
	}
	next := make([]uint64, len(names))
	entry := slices.Repeat([]int32{-1}, int(m))
	n := uint64(0)
	for {
		for i := range names {
			c := permutation[i][next[i]]
			for entry[c] >= 0 {
				next[i]++
				c = permutation[i][next[i]]
			}
			entry[c] = int32(i)
			next[i]++
			n++
			if n == m {
				return entry
			}
		}
	}
}

func TestEqualWeightsMakeThePapersTable(t *testing.T) {
	for _, n := range []int{1, 2, 3, 7, 10, 100} {
		for _, size := range []uint32{127, 251, 2039, largest} {
			entries := equal(n)
			slices.SortFunc(entries, func(a, b Entry) int { return cmp.Compare(a.Key, b.Key) })
			var names []string
			for _, e := range entries {
				names = append(names, e.Key)
			}
			if got, want := build(t, entries, size), paperTable(names, uint64(size)); !slices.Equal(got, want) {
				t.Errorf("%d entries, %d slots: not the paper's table", n, size)
			}
		}
	}
}

// Turns come in the order of round, then name; the j-th turn of an entry
// with q of the most slots Q is in round j*Q/q.
func TestTurns(t *testing.T) {
	for _, shares := range [][]uint32{{1}, {5, 5, 5}, {4, 2, 1}, {7, 3, 0, 5}, {1000, 1, 999, 500}} {
		type turn struct{ round, who int }
		var all []turn
		for who, share := range shares {
			for j := range int(share) {
				all = append(all, turn{j * int(slices.Max(shares)) / int(share), who})
			}
		}
		slices.SortFunc(all, func(a, b turn) int { return cmp.Or(a.round-b.round, a.who-b.who) })
		var want []int32
		for _, x := range all {
			want = append(want, int32(x.who))
		}
		if got := turns(shares); !reflect.DeepEqual(got, want) {
			t.Errorf("%v: the turns are not in order", shares)
		}
	}
}

// differences counts the slots that changed although the old owner is not gone.
func differences(before, after []string, gone string) int {
	count := 0
	for i := range before {
		if before[i] != after[i] && before[i] != gone {
			count++
		}
	}
	return count
}

// removals are the shares of others' slots that move when one of n entries goes, for some entries of some sets.
func removals(t *testing.T, n int, size uint32) (shares []float64) {
	t.Helper()
	for set := range 20 {
		var entries []Entry
		for i := range n {
			entries = append(entries, Entry{Key: fmt.Sprintf("10.%d.%d.%d:80", set, i/250, i%250+1), Weight: 1})
		}
		before := keys(build(t, entries, size), entries)
		for victim := set % max(1, n/5); victim < n; victim += max(1, n/5) {
			gone := entries[victim].Key
			rest := slices.Delete(slices.Clone(entries), victim, victim+1)
			after := keys(build(t, rest, size), rest)
			others := len(before)
			for _, key := range before {
				if key == gone {
					others--
				}
			}
			shares = append(shares, float64(differences(before, after, gone))/float64(others))
		}
		if n > 100 && set == 1 {
			break
		}
	}
	slices.Sort(shares)
	return shares
}

func TestRemovalDisturbsFewOthers(t *testing.T) {
	for _, n := range []int{2, 3, 5, 10, 30, 100, 300, 655} {
		if shares := removals(t, n, 65537); shares[len(shares)-1] > 0.015 {
			t.Errorf("of %d, removing one moves up to %.2f %% of the slots of others", n, 100*shares[len(shares)-1])
		}
	}
}

func TestRemovalFromSmallTablesDisturbsFewOthers(t *testing.T) {
	for _, n := range []int{2, 3, 4, 5, 8, 10, 16, 20, 40, 100} {
		shares := removals(t, n, SizeFor(n))
		if usual, most := shares[len(shares)*9/10], shares[len(shares)-1]; usual > 0.04 || most > 0.05 {
			t.Errorf("of %d, removing one moves up to %.2f %%, and in nine of ten cases %.2f %% of the slots of others", n, 100*most, 100*usual)
		}
	}
}

// Giving one of ten entries 10 % more weight should move about 0.9 % of the
// slots to it; among the others hardly more may change.
func TestWeightChangeDisturbsFewOthers(t *testing.T) {
	entries := weighted(100, 100, 100, 100, 100, 100, 100, 100, 100, 100)
	before := keys(build(t, entries, 65537), entries)
	entries[3].Weight = 110
	after := keys(build(t, entries, 65537), entries)
	if share := float64(differences(before, after, "")) / 65537; share > 0.05 {
		t.Errorf("10 %% more weight for one of ten entries moves %.2f %% of all slots", 100*share)
	}
}

func BenchmarkBuild(b *testing.B) {
	random := rand.New(rand.NewPCG(5, 6))
	for _, n := range []int{10, 1000, 10000} {
		entries := equal(n)
		b.Run(fmt.Sprintf("equal/%d", n), func(b *testing.B) { benchmark(b, entries) })
		for i := range entries {
			entries[i].Weight = 1 + random.Uint32N(100)
		}
		b.Run(fmt.Sprintf("weighted/%d", n), func(b *testing.B) { benchmark(b, entries) })
	}
}

func benchmark(b *testing.B, entries []Entry) {
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Build(entries, 65537, seed); err != nil {
			b.Fatal(err)
		}
	}
}
