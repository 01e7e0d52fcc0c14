package health

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"strconv"
	"sync"

	"github.com/tinylb/tinylb/internal/lb"
)

// grpcProbe calls grpc.health.v1.Health/Check
// (https://github.com/grpc/grpc/blob/master/doc/health-checking.md): one request with
// one field, one answer with one field.
type grpcProbe struct {
	check   lb.Check
	tls     *tls.Config // nil: none is spoken
	fields  []byte      // of the request's header, but for the authority
	body    []byte
	readers sync.Pool
}

func newGRPCProbe(check lb.Check) (probe, error) {
	p := &grpcProbe{check: check, body: healthRequest(check.Service), readers: sync.Pool{New: func() any { return bufio.NewReader(nil) }}}
	scheme := "http"
	if check.TLS.On {
		scheme = "https"
		var err error
		if p.tls, err = tlsConfig(check, "h2"); err != nil {
			return nil, err
		}
	}
	for _, field := range [][2]string{
		{":method", "POST"}, {":scheme", scheme}, {":path", "/grpc.health.v1.Health/Check"},
		{"content-type", "application/grpc"}, {"te", "trailers"}, {"user-agent", userAgent},
	} {
		p.fields = appendField(p.fields, field[0], field[1])
	}
	return p.ask, nil
}

func (p *grpcProbe) ask(ctx context.Context, address netip.AddrPort) error {
	tcp, err := dial(ctx, address)
	if err != nil {
		return err
	}
	defer tcp.Close()
	conn := tcp
	if p.tls != nil {
		secured, err := handshake(ctx, tcp, p.tls, address)
		if err != nil {
			return err
		}
		if secured.ConnectionState().NegotiatedProtocol != "h2" {
			return errNotHTTP2
		}
		conn = secured
	}
	authority := p.check.Host
	if authority == "" {
		authority = address.String()
	}
	fields := append(appendField(nil, ":authority", authority), p.fields...)
	if _, err := conn.Write(http2Request(fields, p.body)); err != nil {
		return during("send", err)
	}
	reader := p.readers.Get().(*bufio.Reader)
	defer p.readers.Put(reader)
	reader.Reset(io.LimitReader(conn, 2*mostRead))
	response, err := readHTTP2Response(reader, conn)
	if err != nil {
		return during("receive", err)
	}
	return judgeGRPC(response)
}

func judgeGRPC(response *http2Response) error {
	if status := response.fields[":status"]; status != "200" {
		return fmt.Errorf("status %.3s", status)
	}
	if status := response.fields["grpc-status"]; status != "0" {
		return fmt.Errorf("gRPC status %.3s", status)
	}
	serving, err := healthResponse(response.body)
	if err != nil {
		return err
	}
	if serving != servingStatus {
		return errors.New(statusName(serving))
	}
	return nil
}

// What follows is protocol buffers' encoding (https://protobuf.dev/programming-guides/encoding)
// of HealthCheckRequest and HealthCheckResponse, in gRPC's frames: a byte of flags, four of length.

const (
	grpcFrameHeader = 5
	serviceField    = 1<<3 | 2 // string service = 1
	statusField     = 1 << 3   // ServingStatus status = 1
	servingStatus   = 1
)

func healthRequest(service string) []byte {
	var message []byte
	if service != "" {
		message = append(binary.AppendUvarint([]byte{serviceField}, uint64(len(service))), service...)
	}
	frame := binary.BigEndian.AppendUint32([]byte{0}, uint32(len(message)))
	return append(frame, message...)
}

// healthResponse returns the status; an absent field is 0.
func healthResponse(frame []byte) (status uint64, err error) {
	bad := errors.New("the answer is no HealthCheckResponse")
	if len(frame) < grpcFrameHeader || frame[0] != 0 ||
		uint64(binary.BigEndian.Uint32(frame[1:])) != uint64(len(frame)-grpcFrameHeader) {
		return 0, bad
	}
	message := frame[grpcFrameHeader:]
	if len(message) == 0 {
		return 0, nil
	}
	status, n := binary.Uvarint(message[1:])
	if message[0] != statusField || n != len(message)-1 {
		return 0, bad
	}
	return status, nil
}

func statusName(status uint64) string {
	names := []string{"UNKNOWN", "SERVING", "NOT_SERVING", "SERVICE_UNKNOWN"}
	if status < uint64(len(names)) {
		return names[status]
	}
	return "serving status " + strconv.FormatUint(status, 10)
}
