module github.com/troupe-engine/troupe/sdk/go

go 1.23
