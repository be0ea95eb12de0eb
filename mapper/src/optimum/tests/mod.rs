mod single;
