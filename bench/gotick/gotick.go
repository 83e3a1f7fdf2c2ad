// Package gotick is the clock that the programs of the bench share: fine ticks, and one time for all processes.
package gotick

import (
	"encoding/binary"
	"os"
	"syscall"
	"time"
	"unsafe"
)

// Ticker is a timerfd: Go's own timers are as coarse as a millisecond when nothing else is to do, which is the whole
// time between two jobs at 1000 a second.
type Ticker struct{ file *os.File }

type itimerspec struct{ interval, value syscall.Timespec }

const (
	clockMonotonic = 1
	nonblocking    = 0x800 // TFD_NONBLOCK: then reading waits in Go's poller, not in a thread
)

// New returns a ticker whose first tick is one step from now.
func New(every time.Duration) (*Ticker, error) {
	fd, _, errno := syscall.Syscall(syscall.SYS_TIMERFD_CREATE, clockMonotonic, nonblocking, 0)
	if errno != 0 {
		return nil, errno
	}
	step := syscall.NsecToTimespec(every.Nanoseconds())
	spec := itimerspec{step, step}
	_, _, errno = syscall.Syscall6(syscall.SYS_TIMERFD_SETTIME, fd, 0, uintptr(unsafe.Pointer(&spec)), 0, 0, 0)
	if errno != 0 {
		return nil, errno
	}
	return &Ticker{os.NewFile(fd, "timerfd")}, nil
}

// Wait returns how many ticks are due: one, or more when this program was held up.
func (t *Ticker) Wait() (int, error) {
	var count [8]byte
	_, err := t.file.Read(count[:])
	return int(binary.LittleEndian.Uint64(count[:])), err
}

// Stop ends the ticker.
func (t *Ticker) Stop() { t.file.Close() }

// Now is nanoseconds on the machine's monotonic clock, the same in every process.
func Now() int64 {
	var now syscall.Timespec
	syscall.Syscall(syscall.SYS_CLOCK_GETTIME, clockMonotonic, uintptr(unsafe.Pointer(&now)), 0)
	return now.Nano()
}
