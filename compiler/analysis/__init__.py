"""What a program costs and how exact it is: operations, memory, precision."""
