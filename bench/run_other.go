//go:build !linux

package main

import (
	"context"
	"errors"
)

var errNeedsLinux = errors.New("the bench reads /proc, runs HAProxy and nginx and therefore needs Linux")

func run(context.Context, options) error { return errNeedsLinux }

func runChild([]string) error { return errNeedsLinux }
