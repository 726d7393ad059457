package main

import (
	"github.com/picosnitch/picosnitch/host/internal/journal"
	"github.com/picosnitch/picosnitch/sdk"
)

func watermark(b journal.Batch) sdk.Watermark { return sdk.Watermark{Epoch: b.Epoch, Sequence: b.Last} }
