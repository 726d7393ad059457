// Package doctor answers: can picosnitch capture on this machine, and if something is wrong, what is to be done?
//
// [Look] gathers facts and changes nothing: no file is made or written, nothing is mounted, and what it loads into the
// kernel counts nothing and is gone when it returns. [Judge] makes a [Report] of facts, without asking anybody. What cannot
// be told without root is said to be untold, not guessed.
//
// Strings that came from elsewhere are bounded and printable in facts and findings alike.
package doctor
