package model

import "time"

// rateLimit lets so many events by in a second, and a tenth of those at once
// after a pause: the generic cell rate algorithm (ITU-T I.371, annex A).
type rateLimit struct {
	due time.Duration // since 1970: when the next event would come if all came evenly
}

const burst = time.Second / 10

// allow reports whether an event may happen now, and counts it if it may.
func (l *rateLimit) allow(now time.Time, perSecond uint32) bool {
	at := time.Duration(now.UnixNano())
	if perSecond == 0 || l.due > at+burst {
		return false
	}
	l.due = max(l.due, at) + time.Second/time.Duration(perSecond)
	return true
}
