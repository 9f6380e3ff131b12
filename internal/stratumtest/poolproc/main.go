// Poolproc runs a simulated pool as a separate process, for tests that kill it, freeze it
// or cut it off. It writes its address to standard output, carries out the orders that it
// reads from standard input, and ends when that is closed.
package main

import (
	"bufio"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"sync/atomic"
	"time"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/stratumtest"
)

func main() {
	var opts stratumtest.PoolOptions
	flag.StringVar(&opts.Name, "name", "pool", "start of its job ids")
	flag.IntVar(&opts.ShareBits, "bits", 4, "zero bits of a share's hash")
	flag.DurationVar(&opts.JobInterval, "interval", 300*time.Millisecond, "time between jobs")
	flag.IntVar(&opts.CleanEvery, "clean", 4, "each how manieth job is clean")
	addr := flag.String("addr", "127.0.0.1:0", "where to listen")
	most := flag.Int64("max", 1<<30, "connections at a time; others are closed at once")
	flag.Parse()
	if err := run(opts, *addr, *most); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(opts stratumtest.PoolOptions, addr string, most int64) error {
	opts.VersionMask = 0x1fffe000
	if most >= 1<<30 {
		opts.Addr = addr
	}
	pool, err := stratumtest.NewPool(opts)
	if err != nil {
		return err
	}
	defer pool.Close()
	listening := pool.Addr()
	if opts.Addr == "" {
		front, err := net.Listen("tcp", addr)
		if err != nil {
			return err
		}
		defer front.Close()
		listening = front.Addr().String()
		go admit(front, pool.Addr(), most)
	}
	fmt.Println(listening)
	return obey(pool, os.Stdin, os.Stdout)
}

// obey carries out orders, one on each line, until the input ends. It answers each with a
// line that contains the state of the pool after it.
func obey(pool *stratumtest.Pool, in io.Reader, out io.Writer) error {
	lines := bufio.NewScanner(in)
	answers := json.NewEncoder(out)
	for lines.Scan() {
		var order stratumtest.PoolOrder
		if err := json.Unmarshal(lines.Bytes(), &order); err != nil {
			return fmt.Errorf("order %q: %w", lines.Text(), err)
		}
		if err := answers.Encode(pool.Obey(order)); err != nil {
			return err
		}
	}
	return lines.Err()
}

// admit forwards a limited number of connections at a time to the pool and closes the
// others.
func admit(front net.Listener, pool string, most int64) {
	var open atomic.Int64
	for {
		conn, err := front.Accept()
		if err != nil {
			return
		}
		if open.Add(1) > most {
			open.Add(-1)
			conn.Close()
			continue
		}
		go func() {
			defer open.Add(-1)
			forward(conn, pool)
		}()
	}
}

func forward(conn net.Conn, pool string) {
	defer conn.Close()
	inner, err := net.Dial("tcp", pool)
	if err != nil {
		return
	}
	defer inner.Close()
	go func() {
		io.Copy(inner, conn)
		inner.Close()
	}()
	io.Copy(conn, inner)
}
