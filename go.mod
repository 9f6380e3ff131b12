module github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher

go 1.26.8

require (
	github.com/bits-and-blooms/bitset v1.29.0 // indirect
	github.com/fsnotify/fsnotify v1.10.1 // indirect
	github.com/golang/glog v1.2.5 // indirect
	github.com/json-iterator/go v1.1.12 // indirect
	github.com/modern-go/concurrent v0.0.0-20180306012644-bacd9c7ef1dd // indirect
	github.com/modern-go/reflect2 v1.0.2 // indirect
	github.com/prometheus/client_golang v1.24.1 // indirect
	github.com/samuel/go-zookeeper v0.0.0-20201211165307-7117e9ea2414 // indirect
	golang.org/x/sys v0.49.0 // indirect
)
