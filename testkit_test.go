package main

import "github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/testkit"

const (
	rawAuthorize = testkit.RawAuthorize
	rawSubscribe = testkit.RawSubscribe
	testWait     = testkit.Wait
)

var (
	checkFaults     = testkit.CheckFaults
	checkMiner      = testkit.CheckMiner
	checkPool       = testkit.CheckPool
	dialFrom        = testkit.DialFrom
	dialSubscribed  = testkit.DialSubscribed
	eventually      = testkit.Eventually
	isOpen          = testkit.IsOpen
	jobLine         = testkit.JobLine
	longContext     = testkit.LongContext
	mustDo          = testkit.Must
	shareLine       = testkit.ShareLine
	startMiner      = testkit.StartMiner
	startMiners     = testkit.StartMiners
	startPool       = testkit.StartPool
	twoPools        = testkit.TwoPools
	unusedAddr      = testkit.UnusedAddr
	waitAccepted    = testkit.WaitAccepted
	waitConnections = testkit.WaitConnections
	waitContext     = testkit.WaitContext
	waitPool        = testkit.WaitPool
	waitUntil       = testkit.WaitUntil
	workerNames     = testkit.WorkerNames
)
