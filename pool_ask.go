package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"time"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/stratum"
)

// askTimeout is for connecting to one IP and its answer.
const askTimeout = 3 * time.Second

// askPool connects to addr, sends requests, which end with mining.subscribe, and
// hands the pool's answers to answered until that is done with them. No worker
// is ever named. The connection ends with a reset, which frees the local port
// at once.
func askPool(ctx context.Context, addr string, requests []byte, connected func(), answered func(*stratum.Response) (done bool, err error)) error {
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", addr)
	if err != nil {
		return err
	}
	defer conn.Close()
	conn.(*net.TCPConn).SetLinger(0)
	stop := context.AfterFunc(ctx, func() { conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	connected()
	if _, err := conn.Write(requests); err != nil {
		return fmt.Errorf("mining.subscribe: %w", err)
	}
	return readAnswers(conn, answered)
}

// readAnswers hands answers to answered until that is done with them. A pool may
// send other lines between them, and a banner before, but not more than maxEarly
// bytes in all.
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
