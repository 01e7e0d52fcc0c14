package health

import (
	"bufio"
	"bytes"
	"slices"
	"strings"
	"testing"

	"golang.org/x/net/http2/hpack"
)

// encoded are fields as a server with a dynamic table and Huffman codes sends them.
func encoded(fields ...string) []byte {
	var b bytes.Buffer
	encoder := hpack.NewEncoder(&b)
	for i := 0; i < len(fields); i += 2 {
		_ = encoder.WriteField(hpack.HeaderField{Name: fields[i], Value: fields[i+1]}) // into memory
	}
	return b.Bytes()
}

func frames(all ...frame) []byte {
	var b []byte
	for _, f := range all {
		b = appendFrame(b, f)
	}
	return b
}

func TestHTTP2Response(t *testing.T) {
	header := encoded(":status", "200", "content-type", "application/grpc")
	trailer := encoded("grpc-status", "0")
	settings := frame{kind: frameSettings, payload: []byte{0, 4, 0, 1, 0, 0}}
	start, end := frame{frameHeaders, flagEndHeaders, 1, header}, frame{frameHeaders, flagEndHeaders | flagEndStream, 1, trailer}
	data := frame{frameData, 0, 1, []byte("body")}
	acked := frame{kind: frameSettings, flags: flagAck}
	padded := func(f frame, priority string) frame {
		f.flags |= flagPadded
		f.payload = append(append([]byte{3}, priority...), append(slices.Clone(f.payload), 0, 0, 0)...)
		return f
	}
	prioritized := padded(start, "\x00\x00\x00\x00\x10")
	prioritized.flags |= flagPriority
	for _, test := range []struct {
		name    string
		input   []byte
		answers []byte
		want    string // the body and the status, or the error
	}{
		{"an answer", frames(settings, acked, start, data, end), frames(acked), "body 0"},
		{"in pieces", frames(settings, frame{frameHeaders, 0, 1, header[:1]}, frame{frameContinuation, 0, 1, header[1:3]},
			frame{frameContinuation, flagEndHeaders, 1, header[3:]}, data, data, end), frames(acked), "bodybody 0"},
		{"padded", frames(settings, prioritized, padded(data, ""), padded(end, "")), frames(acked), "body 0"},
		{"ended by data", frames(start, frame{frameData, flagEndStream, 1, nil}), nil, " "},
		{"trailers in pieces", frames(start, frame{frameHeaders, flagEndStream, 1, trailer[:1]},
			frame{frameContinuation, flagEndHeaders, 1, trailer[1:]}), nil, " 0"},
		{"a ping", frames(frame{kind: framePing, payload: []byte("12345678")}, frame{framePing, flagAck, 0, []byte("12345678")}, start, data, end),
			frames(frame{framePing, flagAck, 0, []byte("12345678")}), "body 0"},
		{"what does not matter", frames(frame{0x8, 0, 0, []byte{0, 0, 1, 0}}, frame{0x8, 0, 1, []byte{0, 0, 1, 0}}, frame{0x2, 0, 1, make([]byte, 5)},
			frame{0xbe, 0, 3, []byte("?")}, frame{kind: frameGoAway, payload: []byte{0, 0, 0, 1, 0, 0, 0, 0}}, start, data, end), nil, "body 0"},
		{"refused", frames(frame{kind: frameGoAway, payload: []byte{0, 0, 0, 0, 0, 0, 0, 11}}), nil, "refused with HTTP/2 error 11"},
		{"reset", frames(start, frame{frameReset, 0, 1, []byte{0, 0, 0, 7}}), nil, "reset with HTTP/2 error 7"},
		{"a short reset", frames(frame{frameReset, 0, 1, nil}), nil, errNotHTTP2.Error()},
		{"a push", frames(frame{framePush, 0, 1, nil}), nil, errNotHTTP2.Error()},
		{"HTTP/1", []byte("HTTP/1.1 400 Bad Request\r\n\r\n"), nil, errNotHTTP2.Error()},
		{"bad padding", frames(frame{frameData, flagPadded, 1, []byte{2, 0}}), nil, errNotHTTP2.Error()},
		{"no padding", frames(frame{frameData, flagPadded, 1, nil}), nil, errNotHTTP2.Error()},
		{"no priority", frames(frame{frameHeaders, flagPriority | flagEndHeaders, 1, header[:1]}), nil, errNotHTTP2.Error()},
		{"bad fields", frames(frame{frameHeaders, flagEndHeaders, 1, []byte{0xff, 0xff}}), nil, errNotHTTP2.Error()},
		{"no end", frames(start, data), nil, "EOF"},
		{"cut", frames(start)[:5], nil, "unexpected EOF"},
		{"endless", frames(slices.Repeat([]frame{{frameData, 0, 1, make([]byte, http2MaxFrame)}}, 3)...), nil, "the answer is too long"},
	} {
		t.Run(test.name, func(t *testing.T) {
			var answers bytes.Buffer
			response, err := readHTTP2Response(bufio.NewReader(bytes.NewReader(test.input)), &answers)
			got := ""
			switch {
			case err != nil:
				got = err.Error()
			case response.fields[":status"] != "200":
				t.Errorf("the fields are %v", response.fields)
			default:
				got = string(response.body) + " " + response.fields["grpc-status"]
			}
			if got != test.want || !bytes.Equal(answers.Bytes(), test.answers) {
				t.Errorf("got %q, answered %x; want %q, %x", got, answers.Bytes(), test.want, test.answers)
			}
		})
	}
}

func TestAppendField(t *testing.T) {
	for _, size := range []int{0, 1, 126, 127, 128, 253, 254, 255, 1024} {
		value := strings.Repeat("x", size)
		fields, err := hpack.NewDecoder(4096, nil).DecodeFull(appendField(nil, "name", value))
		if err != nil || len(fields) != 1 || fields[0].Name != "name" || fields[0].Value != value {
			t.Errorf("%d bytes became %v, %v", size, fields, err)
		}
	}
}

func FuzzHTTP2Response(f *testing.F) {
	f.Add(frames(frame{frameHeaders, flagEndHeaders, 1, encoded(":status", "200")}, frame{frameData, flagPadded, 1, []byte{1, 2, 0}},
		frame{frameHeaders, flagEndHeaders | flagEndStream | flagPriority, 1, append(make([]byte, 5), encoded("grpc-status", "0")...)}))
	f.Fuzz(func(t *testing.T, input []byte) {
		var answers bytes.Buffer
		response, err := readHTTP2Response(bufio.NewReader(bytes.NewReader(input)), &answers)
		if (response == nil) == (err == nil) || answers.Len() > len(input) {
			t.Errorf("got %v and %v, answered %d bytes", response, err, answers.Len())
		}
	})
}
