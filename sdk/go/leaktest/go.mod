module github.com/troupe-engine/troupe/sdk/go/leaktest

go 1.23

require (
	github.com/troupe-engine/troupe/sdk/go v0.1.0
	go.uber.org/goleak v1.3.0
)

replace github.com/troupe-engine/troupe/sdk/go => ../
