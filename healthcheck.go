package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"
)

const (
	healthWait   = 5 * time.Second
	healthAnswer = 1 << 10 // bytes of an answer that are read
)

// errHealthUnknown means that the running process cannot be asked.
var errHealthUnknown = errors.New("the state is not known")

// healthcheck implements -healthcheck, for container images without a shell. It asks the
// process that runs with this configuration whether it works. If the configuration does
// not allow it to ask, it prints that and reports success. Otherwise a mistake in a file
// that the process does not use yet would get the process restarted, and its miners
// disconnected.
func healthcheck(configPath string, out io.Writer) error {
	err := askHealth(configPath)
	switch {
	case errors.Is(err, errHealthUnknown):
		fmt.Fprintln(out, err)
	case err != nil:
		return fmt.Errorf("healthcheck: %w", err)
	default:
		fmt.Fprintln(out, "ok")
	}
	return nil
}

func askHealth(configPath string) error {
	c, err := loadConfig(configPath)
	switch {
	case err != nil:
		return fmt.Errorf("%w: %w", errHealthUnknown, err)
	case !c.EnableHTTPDebug:
		return fmt.Errorf("%w: EnableHTTPDebug is false", errHealthUnknown)
	}
	ctx, cancel := context.WithTimeout(context.Background(), healthWait)
	defer cancel()
	// For a client, an address such as 0.0.0.0:6060 means this machine.
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+c.HTTPDebugListenAddr+"/healthz", nil)
	if err != nil {
		return err
	}
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}} // no proxy
	answer, err := client.Do(request)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	if answer.StatusCode == http.StatusOK {
		return nil
	}
	reason, _ := bufio.NewReader(io.LimitReader(answer.Body, healthAnswer)).ReadString('\n') // may be empty
	return fmt.Errorf("%s: %.200q", answer.Status, reason)
}
