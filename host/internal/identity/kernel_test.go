package identity

import "testing"

// TestKernel runs what needs the kernel's own probes and marks: once for all of them, since they see the whole machine.
func TestKernel(t *testing.T) {
	t.Parallel()
	s := newStation(t)
	for name, test := range map[string]func(*testing.T, *station){
		"EveryShortLivedProgramIsHashed":                                  everyShortLivedProgramIsHashed,
		"ExecutableOfAnUnmountedFileSystemIsLetGo":                        executableOfAnUnmountedFileSystemIsLetGo,
		"FileThatIsReplacedOrRemovedWhileItRunsIsWhatWasExecuted":         fileThatIsReplacedOrRemovedWhileItRunsIsWhatWasExecuted,
		"FileThatIsModifiedAndRunAgainIsHashedAgain":                      fileThatIsModifiedAndRunAgainIsHashedAgain,
		"FileRewrittenWithinATickNeverLendsItsHash":                       fileRewrittenWithinATickNeverLendsItsHash,
		"OneFileOfManyNamesIsReadOnce":                                    oneFileOfManyNamesIsReadOnce,
		"ScriptIsNamedBesideItsInterpreter":                               scriptIsNamedBesideItsInterpreter,
		"MemoryFileAndDescriptorAreExecuted":                              memoryFileAndDescriptorAreExecuted,
		"SetuidProgramAndInnerPid":                                        setuidProgramAndInnerPid,
		"ExecWithoutForkIsAnotherProgramWithTheSameParent":                execWithoutForkIsAnotherProgramWithTheSameParent,
		"CommandLineChangedAtRunTimeIsAClaim":                             commandLineChangedAtRunTimeIsAClaim,
		"OverlayIsHashedThoughStatNamesItsFilesOtherwise":                 overlayIsHashedThoughStatNamesItsFilesOtherwise,
		"BtrfsSubvolumeIsHashedThoughStatNamesItsDeviceOtherwise":         btrfsSubvolumeIsHashedThoughStatNamesItsDeviceOtherwise,
		"TwoSquashfsImagesWithTheSameNumbersDoNotShareAHash":              twoSquashfsImagesWithTheSameNumbersDoNotShareAHash,
		"FileSystemOfAnotherMountNamespaceIsHashedAtFirstSightAndNamedSo": fileSystemOfAnotherMountNamespaceIsHashedAtFirstSightAndNamedSo,
		"ProgramMountedOverAnotherInANamespaceDoesNotPassForIt":           programMountedOverAnotherInANamespaceDoesNotPassForIt,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, s.with(t))
		})
	}
}
