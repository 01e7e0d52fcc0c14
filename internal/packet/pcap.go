package packet

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"time"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"github.com/gopacket/gopacket/pcapgo"
)

// MaxRecord is the longest frame, in bytes, that captures may hold. It is
// libpcap's own limit, and what tcpdump takes by default.
const MaxRecord = 256 << 10

// Errors of ReadCapture and WriteCapture.
var (
	ErrNotCapture  = errors.New("neither a pcap nor a pcapng file")
	ErrNotEthernet = errors.New("only captures of Ethernet can be read")
	ErrCut         = errors.New("the frame was cut by the snap length (capture again with tcpdump -s 0)")
	ErrRecordSize  = fmt.Errorf("more than %d bytes", MaxRecord)
	ErrTime        = errors.New("the time cannot be told exactly")
)

// Record is one frame of a capture.
type Record struct {
	Time time.Time // UTC; the Unix epoch where the file says nothing (pcapng's simple packets)
	Data []byte
}

// File is what a capture file holds.
type File struct {
	Records     []Record
	Nanoseconds bool // times are finer than microseconds
}

// ReadCapture reads a capture file: pcap (of either byte order, with
// microseconds or nanoseconds) or pcapng. Frames must be Ethernet and whole.
// Errors name the record, counted from 1.
func ReadCapture(r io.Reader) (File, error) {
	limited := &allowance{source: r}
	limited.renew()
	buffered := bufio.NewReader(limited)
	magic, err := buffered.Peek(4)
	switch {
	case errors.Is(err, io.EOF) && len(magic) == 0:
		return File{}, errors.New("read capture: the file is empty")
	case err != nil && !errors.Is(err, io.EOF):
		return File{}, fmt.Errorf("read capture: %w", err)
	}
	source, err := newRecordSource(magic, buffered)
	if err != nil {
		return File{}, fmt.Errorf("read capture: %w", err)
	}
	var file File
	for {
		limited.renew()
		record, err := readRecord(source)
		if errors.Is(err, io.EOF) {
			file.Nanoseconds = source.nanoseconds()
			return file, nil
		}
		if err != nil {
			return File{}, fmt.Errorf("read capture: record %d: %w", len(file.Records)+1, endOfFile(err))
		}
		file.Records = append(file.Records, record)
	}
}

// recordSource is one of the two formats. Next returns io.EOF only between two
// records.
type recordSource interface {
	next() ([]byte, gopacket.CaptureInfo, layers.LinkType, error)
	nanoseconds() bool
}

// newRecordSource tells the format by the first bytes of the file.
func newRecordSource(magic []byte, r io.Reader) (recordSource, error) {
	if len(magic) < 4 {
		return nil, ErrNotCapture
	}
	switch binary.BigEndian.Uint32(magic) {
	case 0xa1b2c3d4, 0xd4c3b2a1, 0xa1b23c4d, 0x4d3cb2a1:
		reader, err := pcapgo.NewReader(r)
		if err != nil {
			return nil, fmt.Errorf("pcap header: %w", endOfFile(err))
		}
		return &classicSource{reader}, nil
	case 0x0a0d0d0a:
		reader, err := pcapgo.NewNgReader(r, pcapgo.NgReaderOptions{WantMixedLinkType: true})
		if err != nil {
			return nil, fmt.Errorf("pcapng section header: %w", endOfFile(err))
		}
		return &nextGenerationSource{reader: reader}, nil
	}
	return nil, fmt.Errorf("the first bytes are %x: %w", magic, ErrNotCapture)
}

func readRecord(source recordSource) (Record, error) {
	data, info, link, err := source.next()
	switch {
	case err != nil:
		return Record{}, err
	case link != layers.LinkTypeEthernet:
		return Record{}, fmt.Errorf("link type %d (%v): %w", uint16(link), link, ErrNotEthernet)
	case len(data) > MaxRecord:
		return Record{}, fmt.Errorf("%d bytes: %w", len(data), ErrRecordSize)
	case len(data) < info.Length:
		return Record{}, fmt.Errorf("%d of %d bytes were captured: %w", len(data), info.Length, ErrCut)
	case len(data) > info.Length:
		return Record{}, fmt.Errorf("%d bytes were captured of a frame of %d: %w", len(data), info.Length, ErrMalformed)
	}
	if info.Timestamp.IsZero() {
		info.Timestamp = time.Unix(0, 0)
	}
	return Record{Time: info.Timestamp.UTC(), Data: data}, nil
}

type classicSource struct{ reader *pcapgo.Reader }

func (s *classicSource) next() ([]byte, gopacket.CaptureInfo, layers.LinkType, error) {
	data, info, err := s.reader.ReadPacketData()
	if errors.Is(err, io.EOF) && info.CaptureLength > 0 {
		err = io.ErrUnexpectedEOF // the file ends between a record's header and its data
	}
	return data, info, s.reader.LinkType(), err
}

func (s *classicSource) nanoseconds() bool {
	return s.reader.Resolution() == gopacket.TimestampResolutionNanosecond
}

type nextGenerationSource struct {
	reader *pcapgo.NgReader
	finer  bool // than microseconds, on some interface seen so far
}

func (s *nextGenerationSource) next() ([]byte, gopacket.CaptureInfo, layers.LinkType, error) {
	data, info, err := s.reader.ReadPacketData()
	if err != nil {
		return nil, info, 0, err
	}
	from, err := s.reader.Interface(info.InterfaceIndex)
	if err != nil {
		return nil, info, 0, err
	}
	// pcapgo rounds units that are not decimal: 2^-30 s counts as 1 ns.
	if unit := from.TimestampResolution; unit.Binary() || unit.Exponent() > 19 {
		return nil, info, 0, fmt.Errorf("interface %d counts time in units of %v s: %w (convert with editcap -F nsecpcap)",
			info.InterfaceIndex, unitString(unit), ErrTime)
	}
	s.finer = s.finer || from.TimestampResolution.Exponent() > 6
	return data, info, from.LinkType, nil
}

func (s *nextGenerationSource) nanoseconds() bool { return s.finer }

func unitString(unit pcapgo.NgResolution) string {
	base := 10
	if unit.Binary() {
		base = 2
	}
	return fmt.Sprintf("%d^-%d", base, unit.Exponent())
}

// endOfFile puts io's words for a file that ends too early into clearer ones.
func endOfFile(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("the file ends in the middle: %w", io.ErrUnexpectedEOF)
	}
	return err
}

// allowance bounds what is read of the source for one record, because lengths
// in a broken file are believed, and the bytes kept, before they can be checked.
type allowance struct {
	source io.Reader
	left   int
}

// perRecord leaves room for the blocks that pcapng may have between two records.
const perRecord = 16 << 20

func (a *allowance) renew() { a.left = perRecord }

func (a *allowance) Read(b []byte) (int, error) {
	if a.left <= 0 {
		return 0, fmt.Errorf("more than %d MiB without a whole record: %w", perRecord>>20, ErrRecordSize)
	}
	n, err := a.source.Read(b[:min(len(b), a.left)])
	a.left -= n
	return n, err
}

// WriteCapture writes f as a pcap file with the times of its records, in
// nanoseconds if f says so. It returns ErrTime if the format cannot hold a time
// exactly: it ends in 2106, and microseconds must do unless f.Nanoseconds.
func WriteCapture(w io.Writer, f File) error {
	buffered := bufio.NewWriter(w)
	writer, unit := pcapgo.NewWriter(buffered), time.Microsecond
	if f.Nanoseconds {
		writer, unit = pcapgo.NewWriterNanos(buffered), time.Nanosecond
	}
	if err := writer.WriteFileHeader(MaxRecord, layers.LinkTypeEthernet); err != nil {
		return fmt.Errorf("write capture: %w", err)
	}
	for i, record := range f.Records {
		if err := writeRecord(writer, record, unit); err != nil {
			return fmt.Errorf("write capture: record %d: %w", i+1, err)
		}
	}
	if err := buffered.Flush(); err != nil {
		return fmt.Errorf("write capture: %w", err)
	}
	return nil
}

func writeRecord(w *pcapgo.Writer, r Record, unit time.Duration) error {
	seconds := r.Time.Unix()
	switch {
	case seconds < 0 || seconds > math.MaxUint32 || r.Time.Nanosecond()%int(unit) != 0:
		return fmt.Errorf("%v in units of %v: %w", r.Time, unit, ErrTime)
	case len(r.Data) > MaxRecord:
		return fmt.Errorf("%d bytes: %w", len(r.Data), ErrRecordSize)
	}
	return w.WritePacket(gopacket.CaptureInfo{
		Timestamp: r.Time, CaptureLength: len(r.Data), Length: len(r.Data),
	}, r.Data)
}
