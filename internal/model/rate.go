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
	return perSecond > 0 && l.allowWithin(now, perSecond, burst)
}

// allowSecond is allow where as many as in a second may come at once: a token bucket that
// holds so many tokens.
func (l *rateLimit) allowSecond(now time.Time, perSecond uint32) bool {
	return l.allowWithin(now, perSecond, time.Second-time.Second/time.Duration(perSecond))
}

// allowWithin lets an event be early by so much.
func (l *rateLimit) allowWithin(now time.Time, perSecond uint32, early time.Duration) bool {
	at := time.Duration(now.UnixNano())
	if l.due > at+early {
		return false
	}
	l.due = max(l.due, at) + time.Second/time.Duration(perSecond)
	return true
}
