//go:build tools

// Package tools pins the checker that the SDK's tests run. It is a module of its own, as is leaktest: programs
// which use the SDK depend on nothing else.
package tools

import _ "honnef.co/go/tools/cmd/staticcheck"
