import sys

from pamdi.cli.main import main

sys.exit(main())
