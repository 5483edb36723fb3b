module github.com/troupe-engine/troupe/bench/sdk/go

go 1.23

require github.com/troupe-engine/troupe/sdk/go v0.1.0

replace github.com/troupe-engine/troupe/sdk/go => ../../../sdk/go
