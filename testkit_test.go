package main

import (
	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/stratumtest"
	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/testkit"
)

const (
	difficultyLine = testkit.DifficultyLine
	rawAuthorize   = testkit.RawAuthorize
	rawSubscribe   = testkit.RawSubscribe
	testWait       = testkit.Wait
)

var (
	checkFaults     = testkit.CheckFaults
	checkMiner      = testkit.CheckMiner
	checkPool       = testkit.CheckPool
	dialFrom        = testkit.DialFrom
	dialSubscribed  = testkit.DialSubscribed
	eventually      = testkit.Eventually
	flood           = testkit.Flood
	goodAnswer      = testkit.GoodAnswer
	isOpen          = testkit.IsOpen
	jobLine         = stratumtest.JobLine
	longContext     = testkit.LongContext
	mustDo          = testkit.Must
	pickingPool     = testkit.PickingPool
	sceneJob        = testkit.SceneJob
	sceneShare      = testkit.SceneShare
	setExtranonce   = testkit.SetExtranonce
	shareLine       = stratumtest.ShareLine
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
	withOwnID       = testkit.WithOwnID
	workerNames     = testkit.WorkerNames
)
