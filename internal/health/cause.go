package health

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"syscall"
	"time"
)

// failure is an error and what was done when it came up.
type failure struct {
	during string
	err    error
}

func during(what string, err error) error { return failure{what, err} }

func (f failure) Error() string { return f.during + ": " + f.err.Error() }
func (f failure) Unwrap() error { return f.err }

// cause says why a check failed, "" if it did not: the same for the same reason, that
// is, without ports of this host's or the time, and in printable ASCII, as parts of it
// may come from the backend.
func cause(err error, timeout time.Duration) string {
	if err == nil {
		return ""
	}
	text := reason(err, timeout)
	var f failure
	if errors.As(err, &f) {
		text = f.during + ": " + text
	}
	return strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return '?'
		}
		return r
	}, text)
}

func reason(err error, timeout time.Duration) string {
	var errno syscall.Errno
	var invalid x509.CertificateInvalidError
	var name x509.HostnameError
	var netError interface{ Timeout() bool }
	switch {
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, os.ErrDeadlineExceeded):
		return fmt.Sprintf("no answer within %s", timeout)
	case errors.As(err, &errno):
		return errno.Error()
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return fmt.Sprintf("the certificate is valid from %s to %s", day(invalid.Cert.NotBefore), day(invalid.Cert.NotAfter))
	case errors.As(err, &name):
		return "the certificate is not valid for " + name.Host
	case errors.As(err, new(x509.UnknownAuthorityError)):
		return "the certificate is signed by an unknown authority"
	case errors.As(err, &netError) && netError.Timeout():
		return fmt.Sprintf("no answer within %s", timeout)
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return "closed before the answer was complete"
	}
	var f failure
	if errors.As(err, &f) {
		err = f.err
	}
	var op *net.OpError // which names addresses and ports
	if errors.As(err, &op) {
		err = op.Err
	}
	return strings.TrimPrefix(err.Error(), "tls: ")
}

func day(t time.Time) string { return t.UTC().Format(time.DateTime + "Z") }

// isLocal reports whether a check failed for want of something that this host lacks,
// which says nothing about the backend.
func isLocal(err error) bool {
	for _, errno := range []error{syscall.EMFILE, syscall.ENFILE, syscall.ENOBUFS, syscall.ENOMEM, syscall.EADDRNOTAVAIL} {
		if errors.Is(err, errno) {
			return true
		}
	}
	return false
}
