# SPDX-License-Identifier: Apache-2.0
"""What the daemons share. They are small because this is.

``settings`` reads a configuration file and the environment, ``sections`` are the parts both daemons have;
``credentials`` keeps a leaf fresh, ``enrolment`` is how one is asked for; ``logs`` and ``metrics`` turn events into
what operators look at; ``control`` is the Unix socket, ``process`` the life of a daemon from its command line to its
end.
"""
