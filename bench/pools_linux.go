package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime/debug"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/stratumtest"
	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/testport"
)

// The pools run in their own process. In one process with the miners, a switch of 9,000
// sessions would need more descriptors than a process may have.

var coins = [...]string{"btc", "bcc"}

const jobSize = 1400 // bytes of a job, as docs/performance.md says

// poolRequest and poolReply are lines of JSON on a pipe.
type poolRequest struct {
	NewJob string // coin whose pool sends a job; empty to get only the statistics
}

type poolReply struct {
	Addrs       map[string]string
	Connections int // to all pools
	Faults      []string
	Error       string
}

func runPools() error {
	debug.SetGCPercent(400)
	pools := map[string]*stratumtest.Pool{}
	reply := poolReply{Addrs: map[string]string{}}
	out := json.NewEncoder(os.Stdout)
	for _, coin := range coins {
		addr, err := testport.Addr()
		if err != nil {
			return err
		}
		p, err := stratumtest.NewPool(stratumtest.PoolOptions{Name: coin, Addr: addr, ShareBits: 1, SkipWork: true, JobSize: jobSize})
		if err != nil {
			return err
		}
		defer p.Close()
		pools[coin] = p
		reply.Addrs[coin] = p.Addr()
	}
	if err := out.Encode(reply); err != nil {
		return err
	}
	in := json.NewDecoder(os.Stdin)
	for {
		var r poolRequest
		if err := in.Decode(&r); err != nil {
			if errors.Is(err, io.EOF) {
				return nil
			}
			return err
		}
		var reply poolReply
		if r.NewJob != "" {
			if p := pools[r.NewJob]; p != nil {
				p.NewJob(false)
			} else {
				reply.Error = "no pool " + r.NewJob
			}
		}
		for _, p := range pools {
			reply.Connections += p.Stats().Connections
			for _, fault := range p.Faults() {
				if len(reply.Faults) < 10 {
					reply.Faults = append(reply.Faults, p.Name()+": "+fault)
				}
			}
		}
		if err := out.Encode(reply); err != nil {
			return err
		}
	}
}

// poolsProcess is the child process with the pools. Its methods must not be called
// concurrently.
type poolsProcess struct {
	*process
	stdin io.WriteCloser
	in    *json.Decoder
	out   *json.Encoder
	addrs map[string]string
}

func startPools() (*poolsProcess, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(self, childArgument, "pools")
	p := &poolsProcess{}
	if p.stdin, err = cmd.StdinPipe(); err != nil {
		return nil, err
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	p.in, p.out = json.NewDecoder(stdout), json.NewEncoder(p.stdin)
	if p.process, err = startProcess("pools", cmd); err != nil {
		return nil, err
	}
	var hello poolReply
	if err := p.in.Decode(&hello); err != nil {
		p.stop()
		return nil, p.failed(err)
	}
	p.addrs = hello.Addrs
	return p, nil
}

func (p *poolsProcess) ask(r poolRequest) (poolReply, error) {
	var reply poolReply
	if err := p.out.Encode(r); err != nil {
		return reply, p.failed(err)
	}
	if err := p.in.Decode(&reply); err != nil {
		return reply, p.failed(err)
	}
	if reply.Error != "" {
		return reply, fmt.Errorf("pools: %s", reply.Error)
	}
	return reply, nil
}

// newJob makes a coin's pool send a job to all its miners.
func (p *poolsProcess) newJob(coin string) error {
	_, err := p.ask(poolRequest{NewJob: coin})
	return err
}

// waitConnections waits until the pools have no more than n connections in all.
func (p *poolsProcess) waitConnections(ctx context.Context, n int) error {
	for {
		reply, err := p.ask(poolRequest{})
		if err != nil || reply.Connections <= n {
			return err
		}
		if err := sleep(ctx, pollEvery); err != nil {
			return fmt.Errorf("the pools still have %d connections, not %d: %w", reply.Connections, n, err)
		}
	}
}
