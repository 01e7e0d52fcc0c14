package model

import "testing"

// RFC 1624, section 4, is about the first two; the others are its equation 3
// worked out by hand.
func TestCarryError(t *testing.T) {
	for name, tc := range map[string]struct{ field, wasRight, isRight, want uint16 }{
		"a right one stays right":             {0xdd2f, 0xdd2f, 0x0000, 0x0000},
		"zero is written as zero":             {0x0000, 0x0000, 0x1234, 0x1234},
		"0xffff is another way to write zero": {0xffff, 0x0000, 0x1234, 0x1234},
		"wrong by one":                        {0x1001, 0x1000, 0x2000, 0x2001},
		"wrong by minus one":                  {0x0fff, 0x1000, 0x2000, 0x1fff},
		"the carry goes round":                {0x1001, 0x1000, 0xffff, 0x0001},
		"wrong by so much that it is zero":    {0x1001, 0x1000, 0xfffe, 0x0000},
	} {
		t.Run(name, func(t *testing.T) {
			if got := carryError(tc.field, tc.wasRight, tc.isRight); got != tc.want {
				t.Errorf("got %#04x, want %#04x", got, tc.want)
			}
		})
	}
}
