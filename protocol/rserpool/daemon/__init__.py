# SPDX-License-Identifier: Apache-2.0
"""What the daemons share. They are small because this is.

``settings`` reads a configuration file and the environment, ``sections`` are the parts both daemons have;
``credentials`` keeps a leaf fresh, ``enrolment`` is how one is asked for, ``vault`` where it survives a restart;
``control_channel`` is what is said to the operator and by it, ``channel`` says it, ``live`` brings the settings into
force that come by it, ``places`` follows names; ``logs`` and ``metrics`` turn events into what operators look at;
``control`` is the Unix socket, ``process`` the life of a daemon from its command line to its end, ``frame`` its
beginning.
"""
