package health

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"golang.org/x/net/http2/hpack"
)

// One request over HTTP/2 (RFC 9113) on a connection of its own. http.Transport would
// do, but takes five times as long: it is made for many requests at once.

const (
	http2Preface     = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
	http2FrameHeader = 9
	http2MaxFrame    = 16384 // as long as we do not ask for more
	theStream        = 1

	frameData         = 0x0
	frameHeaders      = 0x1
	frameReset        = 0x3
	frameSettings     = 0x4
	framePush         = 0x5
	framePing         = 0x6
	frameGoAway       = 0x7
	frameContinuation = 0x9

	flagAck        = 0x1 // settings, ping
	flagEndStream  = 0x1 // data, headers
	flagEndHeaders = 0x4
	flagPadded     = 0x8
	flagPriority   = 0x20
)

var errNotHTTP2 = errors.New("the backend does not speak HTTP/2")

type frame struct {
	kind, flags byte
	stream      uint32
	payload     []byte
}

func (f frame) has(flag byte) bool { return f.flags&flag != 0 }

func appendFrame(b []byte, f frame) []byte {
	n := len(f.payload)
	b = append(b, byte(n>>16), byte(n>>8), byte(n), f.kind, f.flags)
	return append(binary.BigEndian.AppendUint32(b, f.stream), f.payload...)
}

func readFrame(r *bufio.Reader) (frame, error) {
	var head [http2FrameHeader]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return frame{}, err
	}
	size := int(head[0])<<16 | int(head[1])<<8 | int(head[2])
	if size > http2MaxFrame {
		return frame{}, errNotHTTP2
	}
	f := frame{kind: head[3], flags: head[4], stream: binary.BigEndian.Uint32(head[5:]) &^ (1 << 31), payload: make([]byte, size)}
	_, err := io.ReadFull(r, f.payload)
	return f, err
}

// appendField adds a literal that is not to be indexed (RFC 7541, 6.2.2).
func appendField(b []byte, name, value string) []byte {
	b = append(b, 0)
	for _, text := range []string{name, value} {
		const mask = 0x7f
		if len(text) < mask {
			b = append(b, byte(len(text)))
		} else {
			b = binary.AppendUvarint(append(b, mask), uint64(len(text)-mask))
		}
		b = append(b, text...)
	}
	return b
}

// http2Request is all that a client says of its own accord.
func http2Request(fields, body []byte) []byte {
	b := appendFrame([]byte(http2Preface), frame{kind: frameSettings})
	b = appendFrame(b, frame{frameHeaders, flagEndHeaders, theStream, fields})
	return appendFrame(b, frame{frameData, flagEndStream, theStream, body})
}

// http2Response is what comes back: the fields of header and trailer together.
type http2Response struct {
	fields map[string]string
	body   []byte

	block   []byte // of fields, as far as it has come
	isEnd   bool   // the stream ends with this block
	decoder *hpack.Decoder
}

func readHTTP2Response(r *bufio.Reader, w io.Writer) (*http2Response, error) {
	response := &http2Response{fields: map[string]string{}}
	response.decoder = hpack.NewDecoder(4096, func(f hpack.HeaderField) { response.fields[f.Name] = f.Value })
	for {
		f, err := readFrame(r)
		if err != nil {
			return nil, err
		}
		done := false
		switch f.stream {
		case 0:
			err = answerConnectionFrame(f, w)
		case theStream:
			done, err = response.take(f)
		}
		if err != nil {
			return nil, err
		}
		if done {
			return response, nil
		}
	}
}

// answerConnectionFrame acknowledges what wants to be.
func answerConnectionFrame(f frame, w io.Writer) error {
	switch {
	case f.kind == frameGoAway && len(f.payload) >= 8 && binary.BigEndian.Uint32(f.payload)&^(1<<31) < theStream:
		return fmt.Errorf("refused with HTTP/2 error %d", binary.BigEndian.Uint32(f.payload[4:]))
	case f.kind == frameSettings && !f.has(flagAck):
		f.payload = nil
	case f.kind == framePing && !f.has(flagAck):
	default:
		return nil
	}
	f.flags = flagAck
	_, err := w.Write(appendFrame(nil, f))
	return err
}

// take takes a frame of the stream; done: that was the last one.
func (p *http2Response) take(f frame) (done bool, err error) {
	switch f.kind {
	case frameReset:
		if len(f.payload) == 4 {
			return false, fmt.Errorf("reset with HTTP/2 error %d", binary.BigEndian.Uint32(f.payload))
		}
		return false, errNotHTTP2
	case framePush:
		return false, errNotHTTP2
	case frameData:
		payload, err := unpad(f)
		if p.body = append(p.body, payload...); len(p.body) > mostRead/2 {
			return false, errors.New("the answer is too long")
		}
		return f.has(flagEndStream), err
	case frameHeaders:
		if p.block, err = unpad(f); err != nil {
			return false, err
		}
		p.isEnd = f.has(flagEndStream)
		return p.takeBlock(f)
	case frameContinuation:
		p.block = append(p.block, f.payload...)
		return p.takeBlock(f)
	}
	return false, nil
}

// takeBlock decodes the fields that a frame may complete.
func (p *http2Response) takeBlock(f frame) (done bool, err error) {
	if !f.has(flagEndHeaders) {
		return false, nil
	}
	if _, err := p.decoder.Write(p.block); err != nil || p.decoder.Close() != nil {
		return false, errNotHTTP2
	}
	return p.isEnd, nil
}

// unpad is a payload without padding and priority.
func unpad(f frame) ([]byte, error) {
	payload, padding := f.payload, 0
	if f.has(flagPadded) {
		if len(payload) == 0 {
			return nil, errNotHTTP2
		}
		padding, payload = int(payload[0]), payload[1:]
	}
	if f.kind == frameHeaders && f.has(flagPriority) {
		const priority = 5
		if len(payload) < priority {
			return nil, errNotHTTP2
		}
		payload = payload[priority:]
	}
	if padding > len(payload) {
		return nil, errNotHTTP2
	}
	return payload[:len(payload)-padding], nil
}
