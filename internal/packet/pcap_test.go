package packet

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"github.com/gopacket/gopacket/pcapgo"
)

func micros() time.Time { return time.Date(2026, 5, 4, 3, 2, 1, 123456000, time.UTC) }
func nanos() time.Time  { return time.Date(2026, 5, 4, 3, 2, 1, 123456789, time.UTC) }

// words are 32-bit fields in one byte order.
func words(order binary.AppendByteOrder, values ...uint32) []byte {
	var b []byte
	for _, v := range values {
		b = order.AppendUint32(b, v)
	}
	return b
}

const (
	magicMicros = 0xa1b2c3d4
	magicNanos  = 0xa1b23c4d
)

func classicHeader(order binary.AppendByteOrder, magic, link uint32) []byte {
	b := words(order, magic)
	b = order.AppendUint16(order.AppendUint16(b, 2), 4)
	return append(b, words(order, 0, 0, 65535, link)...)
}

func classicRecord(order binary.AppendByteOrder, sec, fraction, captured, original uint32, data string) []byte {
	return append(words(order, sec, fraction, captured, original), data...)
}

// block is a pcapng block around a body of whole words.
func block(order binary.AppendByteOrder, kind uint32, body ...byte) []byte {
	size := uint32(12 + len(body))
	return slices.Concat(words(order, kind, size), body, words(order, size))
}

func section(order binary.AppendByteOrder) []byte {
	body := words(order, 0x1a2b3c4d)
	body = order.AppendUint16(order.AppendUint16(body, 1), 0)
	return block(order, 0x0a0d0d0a, append(body, words(order, 0xffffffff, 0xffffffff)...)...)
}

// description is an interface of a link type whose times count in units of
// resolution, later by offset seconds.
func description(order binary.AppendByteOrder, link uint16, resolution byte, offset uint64) []byte {
	body := order.AppendUint16(order.AppendUint16(nil, link), 0)
	body = append(body, words(order, 65535)...)
	body = order.AppendUint16(order.AppendUint16(body, 9), 1)
	body = append(body, resolution, 0, 0, 0)
	body = order.AppendUint16(order.AppendUint16(body, 14), 8)
	body = order.AppendUint64(body, offset)
	return block(order, 1, append(body, 0, 0, 0, 0)...)
}

func enhanced(order binary.AppendByteOrder, from uint32, ticks uint64, captured, original uint32, data string) []byte {
	body := words(order, from, uint32(ticks>>32), uint32(ticks), captured, original)
	body = append(body, data...)
	return block(order, 6, append(body, make([]byte, (4-len(data)%4)%4)...)...)
}

type captureCase struct {
	name string
	data []byte
	want File
	err  error
	text string // of the error
}

func captures() []captureCase {
	le, be := binary.LittleEndian, binary.BigEndian
	sec := uint32(micros().Unix())
	const frame = "frame!"
	record := Record{Time: micros(), Data: []byte(frame)}
	fine := Record{Time: nanos(), Data: []byte(frame)}
	ngTicks := func(t time.Time, perSecond uint64) uint64 {
		return uint64(t.Unix())*perSecond + uint64(t.Nanosecond())*perSecond/1e9
	}
	leHeader := classicHeader(le, magicMicros, 1)
	leRecord := classicRecord(le, sec, 123456, 6, 6, frame)
	ng := slices.Concat(section(le), description(le, 1, 6, 0))
	return []captureCase{
		{name: "little endian", data: slices.Concat(leHeader, leRecord, leRecord), want: File{Records: []Record{record, record}}},
		{name: "big endian", data: slices.Concat(classicHeader(be, magicMicros, 1), classicRecord(be, sec, 123456, 6, 6, frame)),
			want: File{Records: []Record{record}}},
		{name: "nanoseconds", data: slices.Concat(classicHeader(le, magicNanos, 1), classicRecord(le, sec, 123456789, 6, 6, frame)),
			want: File{Records: []Record{fine}, Nanoseconds: true}},
		{name: "nanoseconds, big endian", data: slices.Concat(classicHeader(be, magicNanos, 1), classicRecord(be, sec, 123456789, 6, 6, frame)),
			want: File{Records: []Record{fine}, Nanoseconds: true}},
		{name: "header only", data: leHeader},
		{name: "nanosecond header only", data: classicHeader(le, magicNanos, 1), want: File{Nanoseconds: true}},
		{name: "frame of no bytes", data: slices.Concat(leHeader, classicRecord(le, sec, 123456, 0, 0, "")),
			want: File{Records: []Record{{Time: micros(), Data: []byte{}}}}},
		{name: "pcapng", data: slices.Concat(ng, enhanced(le, 0, ngTicks(micros(), 1e6), 6, 6, frame)), want: File{Records: []Record{record}}},
		{name: "pcapng header only", data: ng},
		{name: "pcapng, big endian", data: slices.Concat(section(be), description(be, 1, 6, 0), enhanced(be, 0, ngTicks(micros(), 1e6), 6, 6, frame)),
			want: File{Records: []Record{record}}},
		{name: "pcapng, interfaces with other units", data: slices.Concat(ng, description(le, 1, 9, 0), description(le, 1, 12, 0), description(le, 1, 3, 1000),
			enhanced(le, 1, ngTicks(nanos(), 1e9), 6, 6, frame), enhanced(le, 0, ngTicks(micros(), 1e6), 6, 6, frame),
			enhanced(le, 2, 5*1e12+999_999_999_999, 6, 6, frame), enhanced(le, 3, 5001, 6, 6, frame)),
			want: File{Nanoseconds: true, Records: []Record{fine, record,
				{Time: time.Unix(5, 999_999_999).UTC(), Data: []byte(frame)}, {Time: time.Unix(1005, 1e6).UTC(), Data: []byte(frame)}}}},
		{name: "pcapng, other link type unused", data: slices.Concat(ng, description(le, 101, 6, 0), enhanced(le, 0, ngTicks(micros(), 1e6), 6, 6, frame)),
			want: File{Records: []Record{record}}},
		{name: "pcapng, simple packet", data: slices.Concat(ng, block(le, 3, slices.Concat(words(le, 6), []byte(frame), []byte{0, 0})...)),
			want: File{Records: []Record{{Time: time.Unix(0, 0).UTC(), Data: []byte(frame)}}}},
		{name: "pcapng, second section", data: slices.Concat(ng, section(be), description(be, 1, 9, 0), enhanced(be, 0, ngTicks(nanos(), 1e9), 6, 6, frame)),
			want: File{Nanoseconds: true, Records: []Record{fine}}},

		{name: "empty", text: "the file is empty"},
		{name: "three bytes", data: leHeader[:3], err: ErrNotCapture},
		{name: "text", data: []byte("GET / HTTP/1.1\r\n"), err: ErrNotCapture, text: "47455420"},
		{name: "gzip", data: []byte{0x1f, 0x8b, 8, 0, 0, 0}, err: ErrNotCapture},
		{name: "header cut", data: leHeader[:20], err: io.ErrUnexpectedEOF, text: "pcap header"},
		{name: "pcapng header cut", data: ng[:20], err: io.ErrUnexpectedEOF, text: "section header"},
		{name: "raw IP", data: slices.Concat(classicHeader(le, magicMicros, 101), leRecord), err: ErrNotEthernet, text: "record 1: link type 101 (Raw)"},
		{name: "pcapng, raw IP", data: slices.Concat(ng, description(le, 101, 6, 0), enhanced(le, 1, 0, 6, 6, frame)), err: ErrNotEthernet, text: "record 1: link type 101 (Raw)"},
		{name: "snap length", data: slices.Concat(leHeader, leRecord, classicRecord(le, sec, 0, 6, 60, frame)), err: ErrCut, text: "record 2: 6 of 60 bytes"},
		{name: "pcapng, snap length", data: slices.Concat(ng, enhanced(le, 0, 0, 6, 60, frame)), err: ErrCut, text: "record 1: 6 of 60 bytes"},
		{name: "more than there was", data: slices.Concat(leHeader, classicRecord(le, sec, 0, 6, 5, frame)), text: "record 1"},
		{name: "pcapng, more than there was", data: slices.Concat(ng, enhanced(le, 0, 0, 6, 5, frame)), err: ErrMalformed, text: "record 1"},
		{name: "record header cut", data: slices.Concat(leHeader, leRecord, leRecord[:10]), err: io.ErrUnexpectedEOF, text: "record 2"},
		{name: "data missing", data: slices.Concat(leHeader, leRecord, leRecord[:16]), err: io.ErrUnexpectedEOF, text: "record 2"},
		{name: "data cut", data: slices.Concat(leHeader, leRecord, leRecord[:20]), err: io.ErrUnexpectedEOF, text: "record 2"},
		{name: "pcapng, data cut", data: slices.Concat(ng, enhanced(le, 0, 0, 6, 6, frame)[:30]), err: io.ErrUnexpectedEOF, text: "record 1"},
		{name: "pcapng, no such interface", data: slices.Concat(ng, enhanced(le, 7, 0, 6, 6, frame)), text: "record 1"},
		{name: "pcapng, binary unit", data: slices.Concat(ng, description(le, 1, 0x80|30, 0), enhanced(le, 1, 0, 6, 6, frame)), err: ErrTime, text: "2^-30"},
	}
}

func TestReadCapture(t *testing.T) {
	for _, c := range captures() {
		t.Run(c.name, func(t *testing.T) {
			got, err := ReadCapture(bytes.NewReader(c.data))
			if c.err == nil && c.text == "" {
				if err != nil || !reflect.DeepEqual(got, c.want) {
					t.Errorf("error %v\n got %+v\nwant %+v", err, got, c.want)
				}
				return
			}
			if err == nil || c.err != nil && !errors.Is(err, c.err) || !strings.Contains(err.Error(), c.text) {
				t.Errorf("got error %v, want %v with %q", err, c.err, c.text)
			}
		})
	}
}

// endless repeats a byte for ever, as a file whose lengths are all huge would.
type endless byte

func (e endless) Read(b []byte) (int, error) {
	for i := range b {
		b[i] = byte(e)
	}
	return len(b), nil
}

func TestReadCaptureIsBounded(t *testing.T) {
	le := binary.LittleEndian
	big := uint32(MaxRecord + 1)
	hugeSnap := classicHeader(le, magicMicros, 1)
	copy(hugeSnap[16:], words(le, 0xffffffff))
	ng := slices.Concat(section(le), description(le, 1, 6, 0))
	largest := strings.Repeat("x", MaxRecord)
	for _, c := range []struct {
		name  string
		start []byte
		ok    bool
	}{
		{"largest", slices.Concat(classicHeader(le, magicMicros, 1), classicRecord(le, 1, 0, MaxRecord, MaxRecord, largest)), true},
		{"one more", slices.Concat(hugeSnap, classicRecord(le, 1, 0, big, big, largest+"x")), false},
		{"pcapng, one more", slices.Concat(ng, enhanced(le, 0, 0, big, big, largest+"x")), false},
	} {
		t.Run(c.name, func(t *testing.T) {
			if _, err := ReadCapture(bytes.NewReader(c.start)); (err == nil) != c.ok || err != nil && !errors.Is(err, ErrRecordSize) {
				t.Errorf("got error %v", err)
			}
		})
	}
	for name, start := range map[string][]byte{
		"record": slices.Concat(hugeSnap, classicRecord(le, 1, 0, 0xfffffff0, 0xfffffff0, "")),
		"packet": slices.Concat(ng, words(le, 6, 0xfffffff0, 0, 0, 0, 0xffffff00, 0xffffff00)),
		"block":  slices.Concat(ng, words(le, 0xbad, 0xfffffff0)),
	} {
		t.Run("endless "+name, func(t *testing.T) {
			if _, err := ReadCapture(io.MultiReader(bytes.NewReader(start), endless(0))); err == nil {
				t.Error("no error")
			} else if !strings.Contains(err.Error(), "record 1") {
				t.Errorf("got error %v", err)
			}
		})
	}
}

func TestWriteCapture(t *testing.T) {
	for _, want := range []File{
		{},
		{Nanoseconds: true},
		{Records: []Record{{micros(), []byte("one")}, {time.Unix(0, 0).UTC(), []byte("two")}, {time.Unix(1<<32-1, 999_999_000).UTC(), []byte("three")}}},
		{Records: []Record{{nanos(), make([]byte, MaxRecord)}, {micros(), []byte{}}}, Nanoseconds: true},
	} {
		var written bytes.Buffer
		if err := WriteCapture(&written, want); err != nil {
			t.Fatal(err)
		}
		if got, err := ReadCapture(&written); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("error %v\n got %+v\nwant %+v", err, got, want)
		}
	}
	for name, c := range map[string]struct {
		record Record
		want   error
	}{
		"too fine":  {Record{nanos(), nil}, ErrTime},
		"year 1":    {Record{time.Time{}, nil}, ErrTime},
		"year 2107": {Record{time.Date(2107, 1, 1, 0, 0, 0, 0, time.UTC), nil}, ErrTime},
		"too long":  {Record{micros(), make([]byte, MaxRecord+1)}, ErrRecordSize},
	} {
		err := WriteCapture(io.Discard, File{Records: []Record{{micros(), nil}, c.record}})
		if !errors.Is(err, c.want) || !strings.Contains(err.Error(), "record 2") {
			t.Errorf("%s: got error %v, want %v with its record", name, err, c.want)
		}
	}
}

func TestWriteCaptureReportsTheWriter(t *testing.T) {
	reader, writer := io.Pipe()
	reader.CloseWithError(io.ErrClosedPipe)
	if err := WriteCapture(writer, File{}); !errors.Is(err, io.ErrClosedPipe) {
		t.Errorf("got error %v", err)
	}
}

// Another program's pcapng, several interfaces included.
func TestReadCaptureOfPcapgo(t *testing.T) {
	var written bytes.Buffer
	writer, err := pcapgo.NewNgWriter(&written, layers.LinkTypeEthernet)
	must(t, err)
	second, err := writer.AddInterface(pcapgo.NgInterface{Name: "b", LinkType: layers.LinkTypeEthernet, SnapLength: 0})
	must(t, err)
	want := File{Nanoseconds: true}
	for i := range 10 {
		at, data := nanos().Add(time.Duration(i)*time.Nanosecond), []byte(strings.Repeat("x", i))
		must(t, writer.WritePacket(gopacket.CaptureInfo{Timestamp: at, CaptureLength: i, Length: i, InterfaceIndex: i % 2 * second}, data))
		want.Records = append(want.Records, Record{at, data})
	}
	must(t, writer.Flush())
	if got, err := ReadCapture(&written); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("error %v\n got %+v\nwant %+v", err, got, want)
	}
}
