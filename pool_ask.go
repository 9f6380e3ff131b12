package main

import (
	"bufio"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"time"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/stratum"
)

// askTimeout bounds connecting to one IP and waiting for its answers.
const askTimeout = 3 * time.Second

// poolQuestion is what askPool asks one IP.
type poolQuestion struct {
	addr      string
	tls       *poolTLS                                       // nil without TLS
	requests  []byte                                         // the last one is mining.subscribe
	connected func()                                         // called once TCP is connected
	secured   func(tls.ConnectionState)                      // called after the TLS handshake; may be nil
	answered  func(*stratum.Response) (done bool, err error) // called with each answer
}

// askPool connects to a pool, sends the requests, and passes the pool's answers to
// answered until that reports that it is done. The requests name no worker. The
// connection ends with a reset, which frees the local port at once.
func askPool(ctx context.Context, q *poolQuestion) error {
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", q.addr)
	if err != nil {
		return err
	}
	defer conn.Close()
	conn.(*net.TCPConn).SetLinger(0)
	stop := context.AfterFunc(ctx, func() { conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	q.connected()
	stream := conn
	if q.tls != nil {
		secure, err := q.tls.client(ctx, conn)
		if err != nil {
			return err
		}
		if q.secured != nil {
			q.secured(secure.ConnectionState())
		}
		stream = secure
	}
	if _, err := stream.Write(q.requests); err != nil {
		return fmt.Errorf("mining.subscribe: %w", err)
	}
	return readAnswers(stream, q.answered)
}

// readAnswers calls answered with each answer until that reports that it is done. A
// pool may send a banner before and other lines between the answers, but not more
// than maxEarly bytes in all.
func readAnswers(from io.Reader, answered func(*stratum.Response) (done bool, err error)) error {
	lines := bufio.NewReaderSize(io.LimitReader(from, maxEarly), stratum.MaxPoolLine)
	for {
		line, err := lines.ReadSlice('\n')
		if err != nil {
			return fmt.Errorf("answer to mining.subscribe: %w", err)
		}
		if stratum.PoolLineKind(line) != stratum.KindAnswer {
			continue
		}
		r, err := stratum.ParseResponse(line)
		if err != nil {
			continue // a banner
		}
		if done, err := answered(r); done || err != nil {
			return err
		}
	}
}
